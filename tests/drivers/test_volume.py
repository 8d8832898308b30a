"""Much data through one client: in bounded memory, both ways.

`make test` sends a little; `make test-all` sends 10 GB each way (`PGWEIR_COPY_MB=10240`).
"""

from __future__ import annotations

import os

import psycopg2
import pytest

MEGABYTES = int(os.environ.get("PGWEIR_COPY_MB", "200"))
ROW = 1024
# The binary, its threads and their scratch buffers, with room to spare.
MEMORY_KIB = 64 * 1024

pytestmark = [pytest.mark.targets("direct"), pytest.mark.timeout(120 + MEGABYTES)]


class Sink:
    """A file that counts what is written to it."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, data) -> int:
        self.bytes += len(data)
        return len(data)


class Source:
    """A file of so many megabytes of rows."""

    def __init__(self, megabytes: int) -> None:
        self._left = megabytes
        self._piece = ("x" * (ROW - 1) + "\n") * 1024

    def read(self, _size: int = -1) -> str:
        if self._left == 0:
            return ""
        self._left -= 1
        return self._piece


def peak_kib(pid: int) -> int:
    """The most memory that a process has had, in KiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1])


def assert_small(proxy) -> None:
    if getattr(proxy, "process", None):
        peak = peak_kib(proxy.process.pid)
        assert peak < MEMORY_KIB, f"{peak} KiB for {MEGABYTES} MB"


def test_much_data_is_copied_out_in_bounded_memory(start):
    proxy = start(pool={"size": 1})
    conn = proxy.connect(autocommit=True)
    sink = Sink()
    conn.cursor().copy_expert(
        f"COPY (SELECT repeat('x', {ROW - 1}) FROM generate_series(1, {MEGABYTES * 1024})) TO STDOUT",
        sink, 1 << 20,
    )
    assert sink.bytes == MEGABYTES << 20
    assert_small(proxy)
    assert proxy.ask("SELECT 1") == 1


def test_much_data_is_copied_in_in_bounded_memory(start):
    proxy = start(pool={"size": 1})
    conn = proxy.connect(autocommit=True)
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE drain (t text)")
    cursor.copy_expert("COPY drain FROM STDIN WHERE false", Source(MEGABYTES), 1 << 20)
    cursor.execute("SELECT count(*) FROM drain")
    assert cursor.fetchone() == (0,)
    assert_small(proxy)


def test_a_copy_in_that_fails_at_its_end_leaves_a_session_that_works(start):
    conn = start(pool={"size": 1}).connect(autocommit=True)
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE numbers (n int)")
    source = Source(5)
    for _ in range(3):
        with pytest.raises(psycopg2.Error) as caught:
            cursor.copy_expert("COPY numbers FROM STDIN", source)
        assert caught.value.pgcode == "22P02"
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
        source = Source(5)
