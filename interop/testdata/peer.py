"""Runs real pywayne services for the tests, on orders from standard input.

An order is a line of JSON, {"id", "cmd", …}; its answer {"id", "result"} or
{"id", "error"}. What listeners get is told as {"event": "message", …}.
"""
import asyncio
import base64
import json
import os
import sys

out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # pywayne prints to standard output

from filelock import FileLock, Timeout  # noqa: E402
from pywayne.cross_comm import CommMsgType, CrossCommService  # noqa: E402
from pywayne.tools import read_yaml_config, write_yaml_config  # noqa: E402

services = {}
tasks = set()


def say(**line):
    out.write(json.dumps(line) + "\n")


def listen(name, service, download_directory):
    @service.message_listener(download_directory=download_directory)
    async def handler(message):
        content = message.content
        pytype = type(content).__name__
        if isinstance(content, (bytes, bytearray)):
            content = base64.b64encode(content).decode()
        say(event="message", service=name, type=message.msg_type.value, sender=message.from_client_id,
            to=message.to_client_id, msg_id=message.msg_id, content=json.dumps(content), pytype=pytype, oss_key=message.oss_key)


async def new(name, role, port, client_id=None, interval=30, timeout=60, env=None, download_directory=None):
    os.environ.update(env or {})  # the OSS settings are read when a service is made
    service = CrossCommService(role=role, ip="127.0.0.1", port=port, client_id=client_id,
                               heartbeat_interval=interval, heartbeat_timeout=timeout)
    services[name] = service
    listen(name, service, download_directory)
    return service.client_id


async def start_server(name):
    task = asyncio.create_task(services[name].start_server())
    tasks.add(task)
    while getattr(services[name], "server", None) is None:
        if task.done():
            return repr(task.exception())
        await asyncio.sleep(0.01)
    return services[name].server.sockets[0].getsockname()[1]


async def stop_server(name):
    services[name].server.close()
    await services[name].server.wait_closed()


async def login(name):
    return await services[name].login()


async def logout(name):
    return await services[name].logout()


async def send(name, type, python, to):
    # The tests write the content as a Python expression: JSON has no bytes.
    return await services[name].send_message(eval(python), CommMsgType(type), to)


async def send_many(name, count, to, prefix):
    for i in range(count):
        if not await services[name].send_message(f"{prefix}{i}", CommMsgType.TEXT, to):
            return i
    return count


async def send_and_lose(name, type, path, to):
    """Sends a file that is deleted between its upload and the message."""
    service = services[name]
    upload = service._upload_file_for_message

    def upload_and_delete(*args):
        content, key = upload(*args)
        assert key and service.oss_manager.delete_file(key) and not service.oss_manager.key_exists(key)
        return content, key

    service._upload_file_for_message = upload_and_delete
    try:
        return await service.send_message(path, CommMsgType(type), to)
    finally:
        service._upload_file_for_message = upload


async def download(name, key, directory):
    return services[name].download_file_manually(key, directory)


async def list_clients(name, online):
    return await services[name].list_clients(only_show_online=online)


async def online(name):
    return services[name].get_online_clients()


async def stop_heartbeats(name):
    """What a program does that hangs: the connection stays, the heartbeats end."""
    services[name].heartbeat_task.cancel()


async def heartbeat_once(name):
    await services[name].websocket.send(json.dumps({
        "msg_id": "hb", "from_client_id": services[name].client_id, "to_client_id": "server",
        "msg_type": "heartbeat", "content": {}, "timestamp": 0.0, "oss_key": None}))


async def connected(name):
    return services[name].is_connected


async def read_state(path):
    return read_yaml_config(path)


async def write_state(path, add):
    states = read_yaml_config(path)
    states[add] = {"status": "online", "last_seen": 1795508069.25}
    write_yaml_config(path, states)


async def lock(path):
    services["lock"] = FileLock(path)
    services["lock"].acquire(timeout=0)


async def unlock():
    services["lock"].release()


async def try_lock(path):
    try:
        with FileLock(path).acquire(timeout=0):
            return True
    except Timeout:
        return False


commands = {f.__name__: f for f in (new, start_server, stop_server, login, logout, send, send_many, send_and_lose,
                                    download, list_clients, online, stop_heartbeats, heartbeat_once, connected,
                                    read_state, write_state, lock, unlock, try_lock)}


async def run(order):
    number = order.pop("id")
    try:
        say(id=number, result=await commands[order.pop("cmd")](**order))
    except BaseException as e:  # the test shall see whatever it is
        say(id=number, error=repr(e))


async def main():
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say(event="ready")
    while line := await reader.readline():
        task = asyncio.create_task(run(json.loads(line)))
        tasks.add(task)


asyncio.run(main())
