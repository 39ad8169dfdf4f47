"""Carries files with the real OssManager for the benchmark, on orders from
standard input, a line of JSON each; so is the answer. The arguments are
endpoint, bucket, key id and secret."""
import json
import os
import sys
import time

out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # pywayne prints to standard output

import crcmod.crcmod  # noqa: E402, F401
from pywayne.aliyun_oss import OssManager  # noqa: E402

endpoint, bucket, key_id, secret = sys.argv[1:]
manager = OssManager(endpoint=endpoint, bucket_name=bucket, api_key=key_id, api_secret=secret, verbose=False)
# Without its C extension the checksum would be all that is measured.
fast = sys.modules["crcmod.crcmod"]._usingExtension
print(json.dumps({"Error": "" if fast else "crcmod was installed without a C compiler"}), file=out)
for number, line in enumerate(sys.stdin):
    order = json.loads(line)
    folder, key, path = order["Folder"], order["Key"], order["Path"]
    if not key:
        key = f"cross_comm/bench/{number}" + ("_folder/" if folder else ".bin")
    do = {
        ("up", False): lambda: manager.upload_file(key, path),
        ("up", True): lambda: manager.upload_directory(path, key),
        ("down", False): lambda: manager.download_file(key, path),
        ("down", True): lambda: manager.download_directory(key, path),
    }[order["Do"], folder]
    began = time.perf_counter()
    ok = do()
    seconds = time.perf_counter() - began
    print(json.dumps({"Seconds": seconds, "Key": key, "Error": "" if ok else f"{order} failed"}), file=out)
