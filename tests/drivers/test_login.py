"""Logging in: who gets in, by which method, and how little the others learn."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import struct
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import psycopg2
import pytest

from support.load import run_async
from support.postgres import APP, APP_MD5, APP_PLAIN
from support.proxy import USERS
from support.tls import offer
from support.wait import wait_until
from support.wire import SSL_REQUEST, RawClient, startup

METHODS = ["trust", "plain", "md5", "scram-sha-256"]


def refusal(proxy, **how) -> asyncpg.PostgresError:
    """The error that a login ends with. asyncpg shows its SQLSTATE, libpq does not."""
    async def attempt():
        await asyncpg.connect(**proxy.asyncpg_params(**how))

    with pytest.raises(asyncpg.PostgresError) as caught:
        run_async(attempt())
    return caught.value


@pytest.mark.targets("pgbouncer")
@pytest.mark.parametrize("method", METHODS)
def test_the_right_password_gets_in_by(start, method):
    proxy = start(auth={"method": method})

    assert proxy.ask("SELECT current_user::text") == "app"


@pytest.mark.targets("pgbouncer")
@pytest.mark.parametrize("method", METHODS[1:])
def test_a_wrong_password_does_not_get_in_by(start, method):
    proxy = start(auth={"method": method})

    with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
        proxy.connect(password="wrong")


@pytest.mark.targets()
@pytest.mark.parametrize("method", METHODS[1:])
def test_an_unknown_user_and_a_wrong_password_look_the_same_by(start, method):
    proxy = start(auth={"method": method})

    wrong = refusal(proxy, password="wrong")
    unknown = refusal(proxy, user="nobody_here")

    assert wrong.sqlstate == unknown.sqlstate == "28P01"
    assert str(wrong).replace("app", "NAME") == str(unknown).replace("nobody_here", "NAME")
    assert str(wrong) == 'password authentication failed for user "app"'


@pytest.mark.targets()
@pytest.mark.parametrize("method", ["md5", "scram-sha-256"])
def test_a_secret_kept_as_a_verifier_gets_in(start, postgres, method):
    observer = postgres.connect().cursor()
    observer.execute("SET password_encryption = %s", (method,))
    observer.execute("DROP ROLE IF EXISTS verified")
    observer.execute("CREATE ROLE verified PASSWORD 'known to the user'")
    observer.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'verified'")
    verifier = observer.fetchone()[0]
    observer.execute("DROP ROLE verified")
    proxy = start(auth={"method": method}, user_secrets=[*USERS, ("verified", verifier)])

    login = {"user": "verified", "password": "known to the user"}
    assert proxy.ask("SELECT current_user::text", **login) == "app"
    assert refusal(proxy, user="verified", password=verifier).sqlstate == "28P01"


@pytest.mark.targets()
@pytest.mark.parametrize("account", [APP, APP_MD5, APP_PLAIN], ids=["scram", "md5", "password"])
def test_a_client_without_a_forced_user_is_logged_in_as_itself(start, account):
    proxy = start(
        domains={"main": {"user": None, "password": None}}, user_secrets=list(dict.fromkeys([*USERS, account])),
    )

    user, password = account
    assert proxy.ask("SELECT session_user::text", user=user, password=password) == user


@pytest.mark.targets()
def test_two_users_of_a_domain_never_share_a_server(start):
    proxy = start(
        pool={"size": 1}, domains={"main": {"user": None, "password": None}},
        user_secrets=[*USERS, APP_MD5],
    )
    one = proxy.connect(autocommit=True).cursor()
    two = proxy.connect(autocommit=True, user=APP_MD5[0], password=APP_MD5[1]).cursor()

    for cursor, name in [(one, "app"), (two, "app_md5")] * 3:
        cursor.execute("SELECT session_user::text")
        assert cursor.fetchone()[0] == name


@pytest.mark.targets()
def test_a_server_password_that_is_wrong_is_told_without_the_password(start):
    proxy = start(
        listen={"login_timeout": "2s"}, pool={"timeout": "2s"},
        domains={"main": {"password": "not the right one"}},
    )

    error = refusal(proxy)

    assert "password authentication failed" in f"{error} {error.detail}"
    assert "not the right one" not in f"{error} {error.detail} {error.hint} {proxy.log()}"


@pytest.mark.targets()
def test_an_unknown_database_is_told_after_the_login_and_not_before(start):
    proxy = start()

    known = refusal(proxy, database="nowhere")
    wrong = refusal(proxy, database="nowhere", password="wrong")

    assert known.sqlstate == "3D000" and str(known).startswith("no such database: nowhere")
    assert wrong.sqlstate == "28P01"


@pytest.mark.targets()
def test_a_catch_all_domain_takes_the_database_from_the_client(start, database):
    proxy = start(domains={"*": {"database": None}})

    assert proxy.ask("SELECT current_database()", dbname=database) == database
    assert refusal(proxy, database="not_on_the_server").sqlstate == "3D000"


@pytest.mark.targets()
def test_the_client_beyond_max_clients_is_told_so_and_a_place_is_free_again_later(start):
    proxy = start(listen={"max_clients": 2})
    first, second = proxy.connect(), proxy.connect()

    error = refusal(proxy)
    assert error.sqlstate == "53300"
    assert str(error).startswith("no more connections allowed (max_clients)")

    first.close()

    def gets_in() -> bool:
        try:
            return proxy.ask("SELECT 1") == 1
        except psycopg2.OperationalError:
            return False

    wait_until(gets_in, "the third client gets the place of the first")
    second.close()


@pytest.mark.targets()
def test_a_login_whose_first_server_cannot_be_had_ends_after_timeout(start, unused_port):
    proxy = start(
        listen={"login_timeout": "20s"}, pool={"timeout": "1s"},
        domains={"main": {}, "away": {"database": "away", "hosts": [f"127.0.0.1:{unused_port}"]}},
    )

    error = refusal(proxy, database="away")

    assert isinstance(error, asyncpg.PostgresError) and error.sqlstate == "08001"
    assert 'no primary of domain "away" is available' in str(error)
    assert str(unused_port) in error.detail
    assert proxy.ask("SELECT 1") == 1


@pytest.mark.targets()
def test_a_server_that_comes_back_in_time_lets_the_waiting_login_through(start, own_postgres):
    own_postgres.stop()
    proxy = start(
        postgres=own_postgres, database="postgres", listen={"login_timeout": "20s"},
        pool={"timeout": "20s"},
    )
    with ThreadPoolExecutor(max_workers=1) as executor:
        answer = executor.submit(proxy.ask, "SELECT 1", connect_timeout=20)
        wait_until(lambda: proxy.metric("pgweir_clients") >= 1, "the login waits")
        own_postgres.start()
        assert answer.result(20) == 1


STARTUP = startup(user=APP[0], database="main")
CREDULOUS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CREDULOUS.check_hostname, CREDULOUS.verify_mode = False, ssl.CERT_NONE


def ask_for_tls(client: RawClient) -> None:
    client.send(SSL_REQUEST)
    assert client.socket.recv(1) == b"S"


def ask_and_send(client: RawClient, instead: bytes) -> None:
    """Something else than the whole ClientHello that is waited for."""
    ask_for_tls(client)
    client.send(instead)


def encrypt(client: RawClient, inside: bytes = b"") -> None:
    ask_for_tls(client)
    client.socket = CREDULOUS.wrap_socket(client.socket)
    client.send(inside)


def half_a_hello() -> bytes:
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        CREDULOUS.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    hello = out.read()
    return hello[:len(hello) // 2]


def reset(client: RawClient) -> None:
    """Closes with an RST: in TLS without a word, and what the other side has not read yet is lost."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


ENDS = [reset, lambda client: client.socket.close()]
# How far a client comes that waits for no answer.
UNHEARD = [
    lambda _client: None,
    lambda client: client.send(SSL_REQUEST[:4]),
    lambda client: client.send(SSL_REQUEST),
    lambda client: client.send(half_a_hello()),
    lambda client: client.send(STARTUP[:len(STARTUP) // 2]),
]
HEARD = [
    ask_for_tls,
    lambda client: ask_and_send(client, b"GET / HTTP/1.1\r\n\r\n"),
    lambda client: ask_and_send(client, bytes(1000)),
    lambda client: ask_and_send(client, half_a_hello()),
    encrypt,
    lambda client: encrypt(client, STARTUP[:len(STARTUP) // 2]),
    # It is asked for its password, and has none.
    lambda client: encrypt(client, STARTUP),
]


def complaints(proxy) -> list[str]:
    """The lines of its log that an operator would look into."""
    return [line for line in proxy.log().splitlines() if re.match(r"\S+ (WARN|ERROR) ", line)]


def wait_until_gone(proxy, came: int) -> None:
    wait_until(
        lambda: proxy.metric("pgweir_clients_accepted_total") == came
        and proxy.status()["clients"]["connected"] == 0,
        f"{came} clients have come and gone",
    )


@pytest.mark.targets()
@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_a_client_that_breaks_off_before_its_login_or_inside_tls_is_no_warning(start, certificates, mode):
    proxy = start(
        listen=offer(certificates, mode), log={"level": "debug"},
        domains={"main": {}, "locked": {"database": "locked", "password": "not the right one"}},
    )
    departures = [(come, end) for come in UNHEARD + HEARD for end in ENDS] * 5

    for come, end in departures:
        client = RawClient(proxy)
        come(client)
        end(client)

    wait_until_gone(proxy, len(departures))
    assert complaints(proxy) == []
    assert "client left before it logged in" in proxy.log()
    assert proxy.ask("SELECT 1", sslmode="require") == 1
    # There is one as soon as a server is to blame.
    with pytest.raises(psycopg2.OperationalError):
        proxy.connect(dbname="locked", sslmode="require")
    assert complaints(proxy)


@pytest.mark.targets()
def test_a_client_that_is_gone_before_it_is_accepted_is_no_warning(start, certificates):
    proxy = start(listen=offer(certificates, "prefer"), log={"level": "debug"})
    departures = [(come, end) for come in UNHEARD for end in ENDS]

    proxy.process.send_signal(signal.SIGSTOP)
    try:
        for come, end in departures:
            client = RawClient(proxy)
            come(client)
            end(client)
    finally:
        proxy.process.send_signal(signal.SIGCONT)

    wait_until_gone(proxy, len(departures))
    assert complaints(proxy) == []
    # A socket that was reset no longer tells where its client was.
    assert "peer=127.0.0.1:" in proxy.log() and "peer=unix" not in proxy.log()
    assert proxy.ask("SELECT 1", sslmode="require") == 1


@pytest.fixture
def unused_port():
    """A port that nothing listens on: bound, so that nobody else takes it, and not listening."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
