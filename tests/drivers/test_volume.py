"""Much data through one client: in bounded memory, both ways.

`make test` sends a little; `make test-all` sends 10 GB each way (`PGWEIR_COPY_MB=10240`), as text in
rows of 1 kB, and in the binary format in rows of 1 MB, with and without TLS.
"""

from __future__ import annotations

import os
import struct

import psycopg
import psycopg2
import pytest

from support.tls import offer

MEGABYTES = int(os.environ.get("PGWEIR_COPY_MB", "200"))
ROW = 1024
# The binary, its threads and their scratch buffers, with room to spare.
MEMORY_KIB = 64 * 1024

pytestmark = [pytest.mark.targets("direct"), pytest.mark.timeout(120 + MEGABYTES)]

# The binary format of COPY: what comes first, and what comes last.
SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = struct.pack("!h", -1)
# A row for each megabyte, longer than any buffer: its number and so many bytes.
DATA = 1 << 20
ROW_HEAD = struct.Struct("!hii")

OVER = ["tcp", pytest.param("tls", marks=pytest.mark.targets())]


@pytest.fixture
def over(request, start, certificates):
    """A proxy, and a psycopg 3 connection to it: in plain, or through TLS."""
    is_tls = request.param == "tls"
    proxy = start(pool={"size": 1}, listen=offer(certificates, "require") if is_tls else {})
    how = {
        "host": "localhost", "sslmode": "verify-full", "sslrootcert": certificates.ca,
    } if is_tls else {"sslmode": "disable"}
    with psycopg.connect(**proxy.params(**how), autocommit=True) as conn:
        assert conn.pgconn.ssl_in_use is is_tls
        yield proxy, conn


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


@pytest.mark.parametrize("over", OVER, indirect=True)
def test_much_binary_data_is_copied_out_in_bounded_memory(over):
    proxy, conn = over
    received, last = 0, bytearray()
    rows = f"SELECT n, decode(repeat('ab', {DATA}), 'hex') FROM generate_series(1, {MEGABYTES}) n"
    with conn.cursor().copy(f"COPY ({rows}) TO STDOUT (FORMAT BINARY)") as copy:
        for block in copy:
            assert received or bytes(block[:len(SIGNATURE)]) == SIGNATURE
            received += len(block)
            last = (last + block)[-len(TRAILER) - 1:]
    assert received == len(SIGNATURE) + MEGABYTES * (ROW_HEAD.size + 4 + DATA) + len(TRAILER)
    assert last == b"\xab" + TRAILER
    assert_small(proxy)
    assert conn.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("over", OVER, indirect=True)
def test_much_binary_data_is_copied_in_in_bounded_memory(over):
    proxy, conn = over
    conn.execute("CREATE TABLE drain (n int, data bytea)")
    data = struct.pack("!i", DATA) + b"\xab" * DATA
    cursor = conn.cursor()
    # Only the last one is kept: it comes if all before it were read right.
    with cursor.copy(f"COPY drain FROM STDIN (FORMAT BINARY) WHERE n = {MEGABYTES}") as copy:
        copy.write(SIGNATURE)
        for n in range(1, MEGABYTES + 1):
            copy.write(ROW_HEAD.pack(2, 4, n) + data)
        copy.write(TRAILER)
    kept = conn.execute("SELECT n, data = decode(repeat('ab', %s), 'hex') FROM drain", (DATA,))
    assert kept.fetchall() == [(MEGABYTES, True)]
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
