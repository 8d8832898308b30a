"""A network between pgweir and a server, which a test may break: a TCP relay that stops, delays, resets, half-closes."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import Callable

_PIECE = 65536


class Side(Enum):
    """Who is at an end of a relay's connection."""

    PGWEIR = "pgweir"
    SERVER = "server"


@dataclass(eq=False)
class _Connection:
    writers: dict[Side, asyncio.StreamWriter]
    ended: set[Side] = field(default_factory=set)
    """Who has been told that nothing more comes."""

    def end(self, side: Side) -> None:
        if side not in self.ended:
            self.ended.add(side)
            self.writers[side].write_eof()

    def reset(self) -> None:
        for writer in self.writers.values():
            # With no time to linger a close is an RST.
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            writer.transport.abort()


class Relay:
    """Passes everything on between a port of its own and a server's, until it is told otherwise.

    `watch(side, data)` sees each piece before it is passed on: who has sent it, and what.
    """

    def __init__(self, port: int, watch: Callable[[Side, bytes], None] = lambda *_: None) -> None:
        self._server_port = port
        self._watch = watch
        self._connections: set[_Connection] = set()
        self._delay = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = self._call(self._listen())

    @property
    def address(self) -> str:
        """As pgweir names the host."""
        return f"127.0.0.1:{self.port}"

    def lead_to(self, port: int) -> None:
        """New connections go to another server. Those that there are stay where they are."""
        self._server_port = port

    def stop(self) -> None:
        """Passes nothing on: no byte, no end, no connection. None of them breaks."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def resume(self) -> None:
        """Passes on what has come meanwhile, and what comes."""
        self._loop.call_soon_threadsafe(self._passes.set)

    def delay(self, seconds: float) -> None:
        """Passes each piece on so much later."""
        self._delay = seconds

    def reset(self) -> None:
        """Breaks all connections with an RST to both sides. New ones work."""
        self._call(self._each(_Connection.reset))

    def half_close(self, side: Side) -> None:
        """Tells one side of all connections that the other has said its last, which may go on to listen."""
        self._call(self._each(lambda connection: connection.end(side)))

    def has_half_closed(self) -> bool:
        """True while a connection is left of which one side has been told the last."""
        return any(connection.ended for connection in list(self._connections))

    def remove(self) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self) -> int:
        self._passes = asyncio.Event()
        self._passes.set()
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self._listener.sockets[0].getsockname()[1]

    async def _each(self, what: Callable[[_Connection], None]) -> None:
        for connection in list(self._connections):
            what(connection)

    async def _end(self) -> None:
        self._listener.close()
        self._passes.set()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await self._each(_Connection.reset)
            await asyncio.wait(tasks, timeout=0.1)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passes.wait()
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection({Side.PGWEIR: writer, Side.SERVER: to_server})
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._pass_on(connection, Side.PGWEIR, reader, Side.SERVER),
                self._pass_on(connection, Side.SERVER, from_server, Side.PGWEIR),
            )
        except OSError:
            connection.reset()
        finally:
            self._connections.discard(connection)
            for end in connection.writers.values():
                end.close()

    async def _pass_on(
        self, connection: _Connection, sender: Side, reader: asyncio.StreamReader, receiver: Side
    ) -> None:
        while data := await reader.read(_PIECE):
            self._watch(sender, data)
            await self._passes.wait()
            if self._delay:
                await asyncio.sleep(self._delay)
            # Who was told that nothing more comes gets nothing more.
            if receiver not in connection.ended:
                connection.writers[receiver].write(data)
                await connection.writers[receiver].drain()
        await self._passes.wait()
        connection.end(receiver)
