"""Resident memory per connected client: logged in and idle, and after one query each."""

import socket
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass

from cluster import DATABASE
from measure import MeasureError, Run, resident_kb

PROTOCOL_3_0 = 196608
SETTLE_SECONDS = 1.0


class ClientError(MeasureError):
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


@dataclass(frozen=True)
class Weigh:
    """So many clients that log in, wait, ask one thing each, and wait again."""

    connections: int

    def run(self, _bench, target, setup, _seconds):
        base = _settled_kb(target.pid)
        with ExitStack() as opened:
            clients = []
            for _ in range(self.connections):
                clients.append(RawClient(target.port, target.client(setup)))
                opened.callback(clients[-1].close)
            idle = _settled_kb(target.pid)
            for client in clients:
                client.query("select 1")
            queried = _settled_kb(target.pid)
        return Run(base_mb=base / 1024, idle_kb=(idle - base) / self.connections,
                   queried_kb=(queried - base) / self.connections)


def _settled_kb(pid):
    time.sleep(SETTLE_SECONDS)
    return resident_kb(pid)
