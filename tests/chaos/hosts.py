"""Hosts that do not work, and count who tries to connect to them."""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path


class Listener:
    """Listens, and notes when somebody has tried."""

    kind: str

    def __init__(self, backlog: int = 128) -> None:
        self.tries: list[float] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.port = self._socket.getsockname()[1]
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """As pgweir names the host."""
        return f"127.0.0.1:{self.port}"

    def between(self, since: float, until: float) -> int:
        """How many tries there were in that time."""
        return sum(since <= at < until for at in list(self.tries))

    def remove(self) -> None:
        self._is_over.set()
        self._thread.join(10)
        self._socket.close()

    def _run(self) -> None:
        self._socket.settimeout(0.05)
        while not self._is_over.is_set():
            try:
                peer, _ = self._socket.accept()
            except TimeoutError:
                continue
            self.tries.append(time.monotonic())
            self.on_peer(peer)

    def on_peer(self, peer: socket.socket) -> None:
        """What becomes of who has connected."""


class Refusing(Listener):
    """Breaks each connection at once, with an RST."""

    kind = "refuses"

    def on_peer(self, peer: socket.socket) -> None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()


class Mute(Listener):
    """Takes each connection, and says nothing."""

    kind = "says nothing"

    def __init__(self) -> None:
        self._peers: list[socket.socket] = []
        super().__init__()

    def on_peer(self, peer: socket.socket) -> None:
        self._peers.append(peer)

    def remove(self) -> None:
        super().remove()
        for peer in self._peers:
            peer.close()


class BlackHole(Listener):
    """Answers nothing, not even that there is a connection: its backlog is full.

    Tries are seen in the kernel's table, where each stays for as long as whoever tries has patience.
    """

    kind = "black hole"
    _SYN_SENT = "02"

    def __init__(self) -> None:
        super().__init__(backlog=0)

    def _run(self) -> None:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
        own = {filler.getsockname()[1] for filler in fillers}
        seen: set[int] = set()
        while not self._is_over.is_set():
            for tried in self._tried() - own - seen:
                self.tries.append(time.monotonic())
                seen.add(tried)
            time.sleep(0.005)
        for filler in fillers:
            filler.close()

    def _tried(self) -> set[int]:
        """The ports from which somebody tries now."""
        ports = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, state = line.split()[:4]
            if state == self._SYN_SENT and int(remote.split(":")[1], 16) == self.port:
                ports.add(int(local.split(":")[1], 16))
        return ports
