"""Runs pywayne's own server for the comparison, as its documentation does, and
says where it listens. The arguments are those of the other servers."""
import argparse
import asyncio
import os
import sys

out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # pywayne prints to standard output

# It makes its object store when it starts, and would not start without one. No
# load sends a file.
for name in ("ENDPOINT", "BUCKET_NAME", "ACCESS_KEY_ID", "ACCESS_KEY_SECRET"):
    os.environ["OSS_" + name] = "http://127.0.0.1:1" if name == "ENDPOINT" else "bench"

from pywayne.cross_comm import CrossCommService  # noqa: E402


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:0", help="the address to listen on; port 0 takes a free one")
    host, port = parser.parse_args().listen.rsplit(":", 1)
    service = CrossCommService(role="server", ip=host, port=int(port))
    serving = asyncio.create_task(service.start_server())
    while service.server is None and not serving.done():
        await asyncio.sleep(0.01)  # it tells nobody when it listens
    if service.server is not None:
        host, port = service.server.sockets[0].getsockname()[:2]
        print(f"listening on {host}:{port}", file=out)
    await serving


try:
    asyncio.run(main())
except OSError as err:
    sys.exit(str(err))
