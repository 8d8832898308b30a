"""The protocol as bytes: a client that may misbehave, and servers that do."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager
from typing import Callable

PROTOCOL_3 = 196608


def startup(version: int = PROTOCOL_3, **parameters: str) -> bytes:
    """A StartupMessage."""
    body = struct.pack("!i", version)
    for name, value in parameters.items():
        body += name.encode() + b"\0" + value.encode() + b"\0"
    body += b"\0"
    return struct.pack("!i", len(body) + 4) + body


def message(kind: bytes, body: bytes = b"") -> bytes:
    """A typed message."""
    return kind + struct.pack("!i", len(body) + 4) + body


def query(sql: str) -> bytes:
    """A simple Query."""
    return message(b"Q", sql.encode() + b"\0")


class Closed(Exception):
    """The other side closed the connection."""


class RawClient:
    """A client that sends what it is told to, byte for byte."""

    def __init__(self, proxy, timeout: float = 10.0) -> None:
        self._proxy = proxy
        self.socket = socket.create_connection((proxy.host, proxy.port), timeout=timeout)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def message(self) -> tuple[bytes, bytes]:
        """The next message: its type and body."""
        head = self._exactly(5)
        return head[:1], self._exactly(struct.unpack("!i", head[1:])[0] - 4)

    def until(self, kind: bytes) -> list[tuple[bytes, bytes]]:
        """Everything up to and with the next message of a type."""
        seen = [self.message()]
        while seen[-1][0] != kind:
            seen.append(self.message())
        return seen

    def login(self, **parameters: str) -> None:
        """Logs in with a password in clear or none; the proxy has to be set to that."""
        self.send(startup(**{"user": self._proxy.user, "database": self._proxy.database,
                             **parameters}))
        kind, body = self.message()
        if (kind, body) == (b"R", struct.pack("!i", 3)):
            self.send(message(b"p", self._proxy.password.encode() + b"\0"))
        self.until(b"Z")

    def error(self) -> dict[str, str]:
        """The fields of the next ErrorResponse."""
        return fields(self.until(b"E")[-1][1])

    def drain(self) -> bytes:
        """Everything until the other side closes. Fails with a timeout if it does not."""
        received = b""
        try:
            while data := self.socket.recv(65536):
                received += data
        except ConnectionResetError:
            pass
        return received

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            if not more:
                raise Closed(f"closed after {data!r}")
            data += more
        return data


def fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse by their letters."""
    parts = body.rstrip(b"\0").split(b"\0")
    return {part[:1].decode(): part[1:].decode() for part in parts}


SSL_REQUEST = struct.pack("!ii", 8, 80877103)


@contextmanager
def fake_server(behave: Callable[[socket.socket], None]):
    """A server that accepts, has no TLS, and behaves as it is told to. Yields its `host:port`."""
    listener = socket.create_server(("127.0.0.1", 0))
    # A closed listener does not wake accept(), a timeout does.
    listener.settimeout(0.1)
    over = threading.Event()
    held: list[socket.socket] = []

    def serve() -> None:
        while not over.is_set():
            try:
                conn, _ = listener.accept()
            except TimeoutError:
                continue
            held.append(conn)
            conn.settimeout(2)
            try:
                if conn.recv(8, socket.MSG_PEEK) == SSL_REQUEST:
                    conn.recv(8)
                    conn.sendall(b"N")
                behave(conn)
            except OSError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield "127.0.0.1:%d" % listener.getsockname()[1]
    finally:
        over.set()
        thread.join()
        for conn in held:
            conn.close()
        listener.close()
