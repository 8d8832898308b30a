"""What strangers, broken clients and servers send: refused, bounded, nobody's problem."""

from __future__ import annotations

import select
import struct

import psycopg2
import pytest

from support.wait import wait_until
from support.wire import RawClient, fake_server, message, query, startup

MEBIBYTE = 1024  # KiB, as VmRSS counts

GARBAGE = {
    "random bytes": bytes(range(1, 256)) * 40,
    "HTTP request": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "length of 2 GB": struct.pack("!ii", 2**31 - 1, 196608),
    "negative length": struct.pack("!ii", -1, 196608),
    "length of zero": struct.pack("!ii", 0, 196608),
    "length of four": struct.pack("!i", 4),
    "protocol 2.0": startup(version=2 << 16, user="app"),
    "protocol 9.0": startup(version=9 << 16, user="app"),
    "no final zero": struct.pack("!ii", 12, 196608) + b"user",
    "no user": startup(database="x"),
    "name without value": struct.pack("!ii", 14, 196608) + b"user\0\0",
}

pytestmark = pytest.mark.targets()


@pytest.fixture
def open_door(start):
    """A proxy that asks for no password and gives a login two seconds."""
    return start(auth={"method": "trust"}, listen={"login_timeout": "2s", "max_message": "64MiB"})


def assert_serves(proxy) -> None:
    assert proxy.ask("SELECT 1") == 1


@pytest.mark.parametrize("bytes_sent", GARBAGE.values(), ids=GARBAGE)
def test_garbage_at_startup_is_answered_with_an_error_or_a_closed_connection(
    open_door, bytes_sent
):
    with RawClient(open_door) as client:
        client.send(bytes_sent)
        answer = client.drain()

    assert answer == b"" or answer[:1] == b"E", answer
    assert_serves(open_door)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 8, 20])
def test_a_startup_cut_off_anywhere_closes_without_harm(open_door, length):
    whole = startup(user="app", database=open_door.database)
    for _ in range(20):
        with RawClient(open_door) as client:
            client.send(whole[:length])

    assert_serves(open_door)


def test_a_startup_that_never_ends_is_closed_when_its_time_is_over(open_door):
    with RawClient(open_door) as client:
        client.send(startup(user="app", database=open_door.database)[:10])
        client.drain()

    assert_serves(open_door)


def test_a_client_that_sends_a_byte_at_a_time_is_cut_off_and_nobody_waits_for_it(open_door):
    whole = startup(user="app", database=open_door.database, application_name="slow" * 50)
    with RawClient(open_door) as client:
        for byte in whole:
            if select.select([client.socket], [], [], 0.1)[0]:
                break
            client.send(bytes([byte]))
            assert_serves(open_door)
        else:
            pytest.fail("the whole startup went through in spite of login_timeout")


def test_a_slow_but_timely_startup_is_served(open_door):
    whole = startup(user="app", database=open_door.database)
    with RawClient(open_door) as client:
        for byte in whole:
            client.send(bytes([byte]))
        client.until(b"Z")
        for byte in query("SELECT 'in pieces'"):
            client.send(bytes([byte]))
        answer = client.until(b"Z")

    assert any(b"in pieces" in body for kind, body in answer if kind == b"D")


@pytest.mark.parametrize("kind", [b"\0", b"\xff", b"!", b"R", b"Z"])
def test_an_unknown_message_after_login_ends_that_connection_alone(open_door, kind):
    with RawClient(open_door) as client:
        client.login()
        client.send(message(kind, b"what is this"))
        assert client.error()["C"] == "08P01"
        client.drain()

    assert_serves(open_door)


@pytest.mark.parametrize("length", [2**31 - 1, 100 << 20, 3, 0, -1])
def test_an_impossible_length_after_login_ends_that_connection_alone(open_door, length):
    before = open_door.rss_kib()
    with RawClient(open_door) as client:
        client.login()
        client.send(b"Q" + struct.pack("!i", length))
        assert client.error()["C"] in ("08P01", "54000")
        client.drain()

    assert open_door.rss_kib() - before < 16 * MEBIBYTE
    assert_serves(open_door)


def test_lengths_inside_a_bind_that_lie_do_no_harm(open_door):
    lies = [
        b"\0\0" + struct.pack("!h", -1),
        b"\0\0" + struct.pack("!hh", 0, 30000),
        b"\0\0" + struct.pack("!hhi", 0, 1, 2**31 - 1),
        b"no zero at the end",
        b"",
    ]
    for lie in lies:
        with RawClient(open_door) as client:
            client.login()
            client.send(message(b"P", b"\0SELECT 1\0\0\0") + message(b"B", lie) + message(b"S"))
            assert client.error()["C"][:2] in ("08", "22", "42", "34", "26")

    assert_serves(open_door)


def test_500_connections_that_say_half_a_sentence_cost_little_and_block_nobody(open_door):
    half = startup(user="app", database=open_door.database)[:12]
    before = open_door.rss_kib()
    strangers = [RawClient(open_door) for _ in range(500)]
    for stranger in strangers:
        stranger.send(half)

    assert_serves(open_door)
    assert open_door.rss_kib() - before < 32 * MEBIBYTE
    for stranger in strangers:
        stranger.socket.close()


def test_strangers_beyond_max_unauthenticated_do_not_keep_others_out_for_longer_than_a_login(start):
    proxy = start(listen={"max_unauthenticated": 10, "login_timeout": "1s"})
    strangers = [RawClient(proxy) for _ in range(50)]

    def served() -> bool:
        try:
            return proxy.ask("SELECT 1", connect_timeout=2) == 1
        except psycopg2.OperationalError:
            return False

    wait_until(served, "a real client gets in", 20)
    for stranger in strangers:
        stranger.socket.close()


def test_a_client_that_reads_nothing_of_a_large_result_costs_little_and_blocks_nobody(start):
    proxy = start(auth={"method": "trust"}, pool={"size": 2})
    assert_serves(proxy)
    before = proxy.rss_kib()
    with RawClient(proxy) as client:
        client.login()
        # 400 MB in rows of 1 MB, of which the client reads the first message alone.
        client.send(query("SELECT repeat('x', 1000000) FROM generate_series(1, 400)"))
        client.message()
        for _ in range(20):
            assert_serves(proxy)
        assert proxy.rss_kib() - before < 24 * MEBIBYTE

    wait_until(lambda: proxy.metric("pgweir_servers", state="active") == 0, "its server is let go")


def test_one_row_of_100_mb_passes_through_without_being_kept(start):
    proxy = start()
    assert_serves(proxy)
    before = proxy.rss_kib()

    assert len(proxy.ask("SELECT repeat('x', 100000000)")) == 100_000_000

    assert proxy.rss_kib() - before < 24 * MEBIBYTE


def test_a_long_query_passes_through_and_its_memory_is_given_back(start):
    proxy = start()
    assert_serves(proxy)
    before = proxy.rss_kib()

    for _ in range(3):
        assert proxy.ask("SELECT length(%s)", "x" * 30_000_000) == 30_000_000

    assert proxy.rss_kib() - before < 64 * MEBIBYTE


# Servers that misbehave


def closes_at_once(conn) -> None:
    conn.close()


def closes_after_the_startup(conn) -> None:
    conn.recv(1024)
    conn.close()


def closes_in_the_middle_of_authentication(conn) -> None:
    conn.recv(1024)
    conn.sendall(b"R\0\0")
    conn.close()


def talks_http(conn) -> None:
    conn.recv(1024)
    conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def claims_two_gigabytes(conn) -> None:
    conn.recv(1024)
    conn.sendall(b"R" + struct.pack("!i", 2**31 - 1) + b"x" * 65536)


def never_stops_talking(conn) -> None:
    conn.recv(1024)
    conn.sendall(message(b"R", struct.pack("!i", 0)))
    while True:
        conn.sendall(message(b"S", b"name\0value\0") * 1000)


def asks_for_something_unheard_of(conn) -> None:
    conn.recv(1024)
    conn.sendall(message(b"R", struct.pack("!i", 99)))


def says_nothing(conn) -> None:
    conn.recv(1024)


BROKEN_SERVERS = [
    closes_at_once, closes_after_the_startup, closes_in_the_middle_of_authentication, talks_http,
    claims_two_gigabytes, never_stops_talking, asks_for_something_unheard_of, says_nothing,
]


@pytest.mark.parametrize("behave", BROKEN_SERVERS)
def test_a_server_that_breaks_during_login_is_an_error_for_its_domain_alone(start, behave):
    with fake_server(behave) as address:
        proxy = start(
            auth={"method": "trust"},
            listen={"login_timeout": "3s"},
            pool={"timeout": "2s", "connect_timeout": "1s"},
            domains={"main": {}, "broken": {"hosts": [address], "database": "broken"}},
        )
        assert_serves(proxy)
        before = proxy.rss_kib()
        with RawClient(proxy) as client:
            client.send(startup(user="app", database="broken"))
            assert_serves(proxy)
            error = client.error()

        assert error["S"] == "FATAL" and error["C"] == "08001", error
        assert_serves(proxy)
        assert proxy.rss_kib() - before < 32 * MEBIBYTE
