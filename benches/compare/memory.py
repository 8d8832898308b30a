"""Resident memory per connected client: logged in and idle, and after one query each."""

import socket
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cluster import DATABASE
from measure import Failure
from process import StartError

PROTOCOL_3_0 = 196608
SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class Memory:
    """Figures of one proxy: KB of resident memory, base and per client."""

    clients: int
    base_kb: int
    idle_kb: float
    queried_kb: float


class ClientError(Exception):
    """A client could not log in or did not get its answer."""


class RawClient:
    """As little of a PostgreSQL client as logs in without a password and runs a query."""

    def __init__(self, port, user):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.unread = b""
        parameters = f"user\0{user}\0database\0{DATABASE}\0\0".encode()
        self.socket.sendall(struct.pack("!ii", 8 + len(parameters), PROTOCOL_3_0) + parameters)
        self._read_until_ready()

    def query(self, text):
        body = text.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!i", 4 + len(body)) + body)
        self._read_until_ready()

    def close(self):
        self.socket.close()

    def _read_until_ready(self):
        while True:
            kind, body = self._message()
            if kind == b"Z":
                return
            if kind == b"E":
                raise ClientError(_error_text(body))
            if kind == b"R" and struct.unpack("!i", body[:4])[0] != 0:
                raise ClientError("a password was asked for")

    def _message(self):
        head = self._exactly(5)
        return head[:1], self._exactly(struct.unpack("!i", head[1:])[0] - 4)

    def _exactly(self, count):
        while len(self.unread) < count:
            received = self.socket.recv(8192)
            if not received:
                raise ClientError("the connection was closed")
            self.unread += received
        taken, self.unread = self.unread[:count], self.unread[count:]
        return taken


def _error_text(body):
    fields = (field for field in body.split(b"\0") if field)
    return next((field[1:].decode() for field in fields if field[:1] == b"M"), "an error")


def measure_memory(proxy, clients):
    """Starts `proxy` afresh, connects `clients` to it and weighs it; Failure says why not."""
    clients = min(clients, proxy.memory_clients_max)
    try:
        proxy.start()
        return _weigh(proxy, clients)
    except (ClientError, StartError, OSError) as error:
        return Failure(str(error))
    finally:
        proxy.stop()


def _weigh(proxy, count):
    base = _settled_rss_kb(proxy.service.pid)
    with ExitStack() as opened:
        clients = []
        for _ in range(count):
            clients.append(RawClient(proxy.port, proxy.client_user))
            opened.callback(clients[-1].close)
        idle = _settled_rss_kb(proxy.service.pid)
        for client in clients:
            client.query("select 1")
        queried = _settled_rss_kb(proxy.service.pid)
    return Memory(count, base, (idle - base) / count, (queried - base) / count)


def _settled_rss_kb(pid):
    """Resident memory in KB, exactly: the figure in `status` lags behind by pages per thread."""
    time.sleep(SETTLE_SECONDS)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    raise ClientError("the kernel tells no resident memory")
