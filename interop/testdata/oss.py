"""Has the real oss2 and the real OssManager use the endpoint, given as arguments
endpoint, bucket, key id and secret. What is wrong is an exception."""
import os
import sys
import tempfile

import numpy
import oss2
import requests
from pywayne.aliyun_oss import OssManager

endpoint, name, key_id, secret = sys.argv[1:]
bucket = oss2.Bucket(oss2.Auth(key_id, secret), endpoint, name)
tmp = tempfile.mkdtemp()


def path(*parts):
    p = os.path.join(tmp, *parts)
    os.makedirs(os.path.dirname(p), exist_ok=True)
    return p


def write(p, data):
    with open(p, "wb") as f:
        f.write(data)
    return p


def same(a, b):
    assert a == b, (a[:200], b[:200])


def fails(status, code, f, *args, **kwargs):
    try:
        f(*args, **kwargs)
    except oss2.exceptions.OssError as e:
        assert (e.status, e.code) == (status, code) or (e.status == status and code is None), e
    else:
        raise AssertionError(f"{f} did not fail")


def basics(b):
    for key in ["a", "a/", "a/b", "k/a b c.txt", "k/中文/文件 名.txt", "k/plus+plus", "k/100%", "k/a&b=c?d#e", "k//double"]:
        b.put_object(key, "content of " + key)
        same(b.get_object(key).read(), ("content of " + key).encode())
        assert b.object_exists(key)
    b.put_object("empty", b"")
    same(b.get_object("empty").read(), b"")
    b.put_object("chunked", iter([b"x" * 70000, b"y" * 70000]))
    same(len(b.get_object("chunked").read()), 140000)
    assert not b.object_exists("missing")
    fails(404, "NoSuchKey", b.get_object, "missing")
    fails(404, None, b.head_object, "missing")
    fails(400, "InvalidObjectName", b.put_object, "../x", b"x")
    fails(404, "NoSuchBucket", oss2.Bucket(b.auth, endpoint, "another", region="lan").get_object, "x")


def metadata(b):
    b.put_object("meta", b"x", headers={"x-oss-meta-who": "me", "Content-Type": "image/png", "Cache-Control": "no-cache"})
    h = b.head_object("meta").headers
    same((h["x-oss-meta-who"], h["Content-Type"], h["Cache-Control"]), ("me", "image/png", "no-cache"))
    same(b.get_object_meta("meta").headers["Content-Length"], "1")
    b.copy_object(name, "meta", "k/co py")
    same(b.head_object("k/co py").headers["x-oss-meta-who"], "me")
    b.update_object_meta("meta", {"x-oss-meta-who": "you"})
    same(b.head_object("meta").headers["x-oss-meta-who"], "you")
    same(b.get_object_acl("meta").acl, "default")
    same(b.get_bucket_acl().acl, "private")
    same(b.get_bucket_info().name, name)
    fails(409, "FileAlreadyExists", b.put_object, "meta", b"y", headers={"x-oss-forbid-overwrite": "true"})
    fails(400, "InvalidDigest", b.put_object, "meta", b"hellx", headers={"Content-MD5": "XUFAKrxLKna5cZ2REBfFkg=="})
    same(b.get_object("meta", byte_range=(0, 0)).read(), b"x")


def listings(b):
    keys = sorted([f"ls/{i:02d} 中+%&" for i in range(25)] + [f"ls/sub{i}/x y" for i in range(4)], key=str.encode)
    for key in keys:
        b.put_object(key, b"x")
    same([o.key for o in oss2.ObjectIterator(b, prefix="ls/", max_keys=7)], keys)
    same([o.key for o in oss2.ObjectIteratorV2(b, prefix="ls/", max_keys=7)], keys)
    same([o.key for o in oss2.ObjectIterator(b, prefix="ls/", delimiter="/", max_keys=3) if o.is_prefix()],
         [f"ls/sub{i}/" for i in range(4)])
    same(sorted(b.batch_delete_objects(keys[:3] + ["not there"]).deleted_keys), sorted(keys[:3] + ["not there"]))
    same([x.name for x in oss2.BucketIterator(oss2.Service(b.auth, endpoint, region="lan"))], [name])


def transfers(b):
    data = os.urandom(3 << 20)
    up = write(path("up"), data)
    oss2.resumable_upload(b, "big", up, multipart_threshold=1 << 20, part_size=300 << 10, num_threads=3,
                          store=oss2.ResumableStore(root=tmp))
    oss2.resumable_download(b, "big", path("down"), multiget_threshold=1 << 20, part_size=300 << 10, num_threads=3,
                            store=oss2.ResumableDownloadStore(root=tmp))
    same(open(path("down"), "rb").read(), data)
    same(b.get_object("big").read(), data)
    b.get_object_to_file("big", path("down2"))
    same(open(path("down2"), "rb").read(), data)
    upload = b.init_multipart_upload("parts").upload_id
    part = b.upload_part("parts", upload, 1, data[:200000])
    same([p.part_number for p in oss2.PartIterator(b, "parts", upload)], [1])
    same([u.key for u in oss2.MultipartUploadIterator(b)], ["parts"])
    b.complete_multipart_upload("parts", upload, [oss2.models.PartInfo(1, part.etag)])
    same(b.get_object("parts").read(), data[:200000])
    upload = b.init_multipart_upload("aborted").upload_id
    b.abort_multipart_upload("aborted", upload)
    fails(404, "NoSuchUpload", b.list_parts, "aborted", upload)


def urls(b):
    same(requests.put(b.sign_url("PUT", "by url/中", 60), data=b"by URL").status_code, 200)
    same(requests.get(b.sign_url("GET", "by url/中", 60)).content, b"by URL")
    same(requests.get(b.sign_url("GET", "by url/中", 60) + "x").status_code, 403)


def manager():
    m = OssManager(endpoint=endpoint, bucket_name=name, api_key=key_id, api_secret=secret, verbose=False)
    assert m.upload_file("m/f.txt", write(path("f.txt"), b"a file"))
    assert m.upload_text("m/t.txt", "a text 文") and m.read_file_content("m/t.txt") == "a text 文"
    assert m.upload_image("m/i.png", numpy.zeros((4, 4, 3), numpy.uint8))
    assert m.key_exists("m/f.txt") and not m.key_exists("m/nope")
    assert m.download_file("m/f.txt", root_dir=path("dl", ""))
    same(open(path("dl", "m", "f.txt"), "rb").read(), b"a file")
    for p in ["x", "sub/y z", "sub/深/文件", "empty"]:
        write(path("folder", p), b"" if p == "empty" else p.encode())
    assert m.upload_directory(path("folder", "")[:-1], "up/dir")
    same(set(m.list_keys_with_prefix("up/dir")), {"up/dir/x", "up/dir/sub/y z", "up/dir/sub/深/文件", "up/dir/empty"})
    assert m.download_directory("up/dir/", path("back", ""))
    got = {os.path.relpath(os.path.join(d, f), path("back", "")) for d, _, fs in os.walk(path("back", "")) for f in fs}
    assert any(g.endswith(os.path.join("sub", "深", "文件")) for g in got) and len(got) == 4, got
    assert ("sub/", True) in [(n.split("up/dir/")[-1], d) for n, d in m.list_directory_contents("up/dir/")] or m.list_directory_contents("up/dir/")
    assert m.get_file_metadata("m/f.txt")["content_length"] == 6
    assert m.copy_object("m/f.txt", "m/copy") and m.move_object("m/copy", "m/moved")
    assert m.key_exists("m/moved") and not m.key_exists("m/copy")
    assert m.download_files_with_prefix("m/", root_dir=path("pre", ""))
    assert m.delete_file("m/moved") and m.delete_files_with_prefix("up/")
    same(m.list_keys_with_prefix("up/"), [])
    assert "m/f.txt" in m.list_all_keys()


for b in (bucket, oss2.Bucket(oss2.AuthV4(key_id, secret), endpoint, name, region="lan")):
    basics(b)
    metadata(b)
    listings(b)
    transfers(b)
    urls(b)
manager()
print("ALL WELL")
