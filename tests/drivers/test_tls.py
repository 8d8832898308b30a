"""TLS on both sides with real libraries: libpq 15, 17 and 18, asyncpg, OpenSSL's own program."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import psycopg
import psycopg2
import pytest

from support.load import run_async
from support.postgres import APP, Postgres, installed_program
from support.proxy import binary
from support.tls import encrypt, offer, servers
from support.wait import wait_until

pytestmark = pytest.mark.targets()

IS_ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def certificates(certificates):
    """Those of the run and what only these tests need: one for `app`, and a stranger's."""
    certificates.issue("app", "")
    certificates.authority("stranger")
    certificates.issue("intruder", "", ca="stranger")
    return certificates


@pytest.fixture(scope="module")
def tls_postgres(certificates):
    """A cluster with TLS, whose certificate is for `localhost`."""
    cluster = Postgres()
    cluster.stop()
    encrypt(cluster, certificates, certificates.path("localhost.crt"), certificates.path("localhost.key"))
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.fixture
def tls_database(tls_postgres):
    tls_postgres.create_database("over_tls")
    yield "over_tls"
    tls_postgres.drop_database("over_tls")


def by_psycopg2(proxy, **params):
    return proxy.connect(**params)


def by_psycopg3(proxy, **params):
    return psycopg.connect(**proxy.params(**params))


LIBPQ = [by_psycopg2, by_psycopg3]


@pytest.mark.parametrize("connect", LIBPQ)
@pytest.mark.parametrize("offered", ["disable", "prefer", "require"])
def test_each_sslmode_of_a_client_gets_what_is_offered(start, certificates, connect, offered):
    proxy = start(listen={} if offered == "disable" else offer(certificates, offered))
    for sslmode in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"):
        wants_tls = sslmode in ("require", "verify-ca", "verify-full")

        def attempt():
            return connect(proxy, host="localhost", sslmode=sslmode, sslrootcert=certificates.ca)

        if (offered == "disable" and wants_tls) or (offered == "require" and sslmode == "disable"):
            expected = "listen.tls.mode" if offered == "require" else "SSL"
            with pytest.raises((psycopg2.OperationalError, psycopg.OperationalError), match=expected):
                attempt()
            continue
        conn = attempt()
        cursor = conn.cursor()
        cursor.execute("SELECT 42")
        assert cursor.fetchone()[0] == 42
        # "allow" comes in plain first, and again with TLS if that is refused.
        is_encrypted = offered != "disable" and (
            wants_tls or sslmode == "prefer" or offered == "require"
        )
        expected = "TLSv1.3/TLS_AES_256_GCM_SHA384" if is_encrypted else ""
        wait_until(
            lambda: [row["tls"] for row in proxy.show("CLIENTS") if row["user"] == "app"] == [expected],
            f"sslmode={sslmode} is shown as it is",
        )
        conn.close()


@pytest.mark.parametrize("connect", LIBPQ)
def test_what_does_not_fit_is_refused_by_the_client(start, certificates, connect):
    proxy = start(listen=offer(certificates, "prefer"))
    for match, params in [
        ("does not match host name", {"sslmode": "verify-full", "sslrootcert": certificates.ca}),
        ("certificate verify failed",
         {"sslmode": "verify-ca", "sslrootcert": certificates.path("stranger.crt")}),
    ]:
        with pytest.raises((psycopg2.OperationalError, psycopg.OperationalError), match=match):
            connect(proxy, host="127.0.0.1", **params)


@pytest.mark.parametrize("connect", LIBPQ)
def test_a_client_certificate_is_demanded_by_verify_ca(start, certificates, connect):
    proxy = start(listen=offer(certificates, "verify-ca", ca=certificates.ca))
    params = {"host": "localhost", "sslmode": "verify-full", "sslrootcert": certificates.ca}
    own = {"sslcert": certificates.path("app.crt"), "sslkey": certificates.path("app.key")}
    theirs = {"sslcert": certificates.path("intruder.crt"), "sslkey": certificates.path("intruder.key")}

    connect(proxy, **params, **own).close()

    for wrong, match in [({"sslcert": "/nowhere", "sslkey": "/nowhere"}, "certificate required"),
                         (theirs, "unknown ca")]:
        with pytest.raises((psycopg2.OperationalError, psycopg.OperationalError), match=match):
            connect(proxy, **params, **wrong)
    assert "no TLS with the client" in proxy.log()


@pytest.mark.parametrize("connect", LIBPQ)
def test_tls_without_a_question_first_is_accepted(start, certificates, connect):
    proxy = start(listen=offer(certificates, "require"))

    conn = connect(
        proxy, host="localhost", sslmode="verify-full", sslrootcert=certificates.ca,
        sslnegotiation="direct",
    )

    cursor = conn.cursor()
    cursor.execute("SELECT 1")
    assert cursor.fetchone()[0] == 1
    conn.close()


def test_a_statement_is_cancelled_through_tls(start, certificates):
    proxy = start(listen=offer(certificates, "require"))
    params = {"host": "localhost", "sslmode": "require"}
    with ThreadPoolExecutor(max_workers=1) as executor:
        for cancel in ("cancel", "cancel_safe"):
            conn = by_psycopg3(proxy, **params)
            running = executor.submit(conn.execute, "SELECT pg_sleep(50)")

            def cancelled() -> bool:
                # The first may come before the statement has begun.
                getattr(conn, cancel)()
                return running.done()

            wait_until(cancelled, "it is cancelled", 20)
            with pytest.raises(psycopg.errors.QueryCanceled):
                running.result(0)
            conn.close()


def test_scram_works_inside_tls_and_channel_binding_is_not_claimed(start, certificates):
    proxy = start(listen=offer(certificates, "require"))
    params = {"host": "localhost", "sslmode": "require"}

    by_psycopg3(proxy, channel_binding="prefer", **params).close()
    with pytest.raises(psycopg.OperationalError, match="channel binding"):
        by_psycopg3(proxy, channel_binding="require", **params)


def test_asyncpg_works_through_tls_on_both_sides(start, certificates, tls_postgres, tls_database):
    proxy = start(
        postgres=tls_postgres, database=tls_database, listen=offer(certificates, "require"),
        domains=servers(tls_postgres, "verify-full", ca=certificates.ca),
    )
    context = ssl.create_default_context(cafile=certificates.ca)

    async def work():
        conn = await asyncpg.connect(**proxy.asyncpg_params(host="localhost", ssl=context))
        assert await conn.fetchval(IS_ENCRYPTED) is True
        await conn.execute("CREATE TABLE t (n int, body text)")
        rows = [(n, "b" * 5000) for n in range(4000)]
        await conn.copy_records_to_table("t", records=rows)
        assert await conn.fetchval("SELECT sum(length(body)) FROM t") == 20_000_000
        statement = await conn.prepare("SELECT body FROM t WHERE n = $1")
        assert await statement.fetchval(7) == "b" * 5000
        assert len(await conn.fetch("SELECT * FROM t")) == 4000
        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            await conn.fetchval("SELECT pg_sleep(30)", timeout=0.3)
        assert await conn.fetchval("SELECT 1") == 1
        await conn.close()

    run_async(work())
    tls = {row["tls"] for row in proxy.show("SERVERS")}
    assert tls == {"TLSv1.3/TLS_AES_256_GCM_SHA384"}


def test_psycopg3_pipelines_cursors_and_copies_pass_through_tls_on_both_sides(
    start, certificates, tls_postgres, tls_database,
):
    proxy = start(
        postgres=tls_postgres, database=tls_database, listen=offer(certificates, "require"),
        domains=servers(tls_postgres, "verify-full", ca=certificates.ca),
    )
    conn = by_psycopg3(proxy, host="localhost", sslmode="verify-full", sslrootcert=certificates.ca)
    conn.execute("CREATE TABLE t (n int, body text)")
    conn.commit()
    with conn.pipeline():
        cursors = [conn.execute("SELECT %s::int, repeat('p', 20000)", (n,)) for n in range(200)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(200))
    with conn.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
        for n in range(20_000):
            copy.write_row((n, "c" * 500))
    with conn.cursor() as cursor, cursor.copy("COPY t TO STDOUT") as copy:
        assert sum(len(block) for block in copy) > 10_000_000
    with conn.cursor(name="on_the_server", binary=True) as cursor:
        cursor.itersize = 1000
        cursor.execute("SELECT * FROM t ORDER BY n")
        # Between two fetches nobody reads: the answer waits in whole records and in parts of one.
        assert sum(1 for _ in cursor) == 20_000
    conn.commit()
    conn.close()


@pytest.mark.timeout(120)
def test_a_client_that_reads_slowly_gets_all_of_a_large_result(
    start, certificates, tls_postgres, tls_database,
):
    proxy = start(
        postgres=tls_postgres, database=tls_database, listen=offer(certificates, "require"),
        domains=servers(tls_postgres, "require"),
    )
    before = proxy.rss_kib()
    conn = by_psycopg3(proxy, host="localhost", sslmode="require")
    total = 0
    with conn.cursor() as cursor:
        for row in cursor.stream("SELECT n, repeat('s', 10000) FROM generate_series(1, 10000) n"):
            total += len(row[1])
            if row[0] % 1000 == 0:
                time.sleep(0.1)
                assert proxy.rss_kib() - before < 20_000
    assert total == 100_000_000
    conn.close()


def test_psql_of_debian_copies_through_tls(start, certificates, tmp_path):
    proxy = start(listen=offer(certificates, "require"))
    file = tmp_path / "rows"
    file.write_text("".join(f"{n}\t{'q' * 300}\n" for n in range(20_000)))
    script = (
        "\\conninfo\nCREATE TABLE t (n int, body text);\n"
        f"\\copy t FROM '{file}'\n\\copy t TO '{file}.out'\nSELECT count(*) FROM t;\n"
    )
    environment = {
        **os.environ, "PGHOST": "localhost", "PGPORT": str(proxy.port), "PGUSER": APP[0],
        "PGPASSWORD": APP[1], "PGDATABASE": proxy.database, "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": certificates.ca,
    }

    done = subprocess.run(
        [installed_program("psql"), "-X", "-v", "ON_ERROR_STOP=1"], input=script, env=environment,
        capture_output=True, text=True, timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert "TLSv1.3" in done.stdout
    assert (tmp_path / "rows.out").read_text() == file.read_text()


def test_pgbench_runs_prepared_through_tls_on_both_sides(start, certificates, tls_postgres, tls_database):
    proxy = start(
        postgres=tls_postgres, database=tls_database, listen=offer(certificates, "require"),
        domains=servers(tls_postgres, "verify-full", ca=certificates.ca),
    )
    environment = {
        **os.environ, "PGHOST": "localhost", "PGPORT": str(proxy.port), "PGUSER": APP[0],
        "PGPASSWORD": APP[1], "PGDATABASE": proxy.database, "PGSSLMODE": "require",
    }
    # As many clients as servers: pgbench blocks in each Prepare, with transactions of its others open.
    for args in (["-i", "-q", "-s", "1"], ["-M", "prepared", "-c", "4", "-j", "2", "-t", "60"]):
        done = subprocess.run(
            [installed_program("pgbench"), *args], env=environment, capture_output=True, text=True, timeout=60,
        )
        assert done.returncode == 0, done.stderr
    assert "number of transactions actually processed: 240/240" in done.stdout


@pytest.mark.parametrize("version, is_taken", [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
def test_versions_below_1_2_are_refused(start, certificates, version, is_taken):
    proxy = start(listen=offer(certificates, "prefer"))

    done = subprocess.run(
        ["openssl", "s_client", "-starttls", "postgres", "-connect", f"127.0.0.1:{proxy.port}",
         "-CAfile", certificates.ca, "-cipher", "DEFAULT@SECLEVEL=0", version],
        input="", capture_output=True, text=True, timeout=30,
    )

    assert ("Verify return code: 0 (ok)" in done.stdout and "Cipher is (NONE)" not in done.stdout) is is_taken


def test_a_hundred_logins_at_once_come_through(start, certificates):
    proxy = start(listen=offer(certificates, "require"))
    with ThreadPoolExecutor(max_workers=25) as executor:
        answers = executor.map(
            lambda n: proxy.ask("SELECT %s::int", n, host="localhost", sslmode="require"), range(100)
        )
        assert list(answers) == list(range(100))


def test_the_authorities_of_the_system_are_believed_by_name(
    start, certificates, tls_postgres, tls_database, monkeypatch,
):
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca)
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")

    proxy = start(
        postgres=tls_postgres, database=tls_database,
        domains=servers(tls_postgres, "verify-full", ca="system"),
    )

    assert proxy.ask(IS_ENCRYPTED) is True


def refused(proxy) -> asyncpg.PostgresError:
    async def attempt():
        await asyncpg.connect(**proxy.asyncpg_params(), ssl=False)

    with pytest.raises(asyncpg.PostgresError) as caught:
        run_async(attempt())
    return caught.value


def test_what_is_wrong_with_a_server_is_told_to_the_client(start, certificates, tls_postgres, tls_database):
    for mode, ca, detail in [
        ("verify-full", certificates.path("stranger.crt"), "UnknownIssuer"),
        ("verify-ca", certificates.path("stranger.crt"), "UnknownIssuer"),
    ]:
        proxy = start(
            postgres=tls_postgres, database=tls_database, pool={"timeout": "3s"},
            domains=servers(tls_postgres, mode, ca=ca),
        )
        error = refused(proxy)
        assert error.sqlstate == "08001" and detail in error.detail, error.detail

    by_address = servers(tls_postgres, "verify-full", ca=certificates.ca)
    by_address["main"]["hosts"] = [f"127.0.0.1:{tls_postgres.port}"]
    proxy = start(
        postgres=tls_postgres, database=tls_database, pool={"timeout": "3s"}, domains=by_address,
    )
    assert "not valid for name" in refused(proxy).detail


@pytest.mark.parametrize("how, mode, outcome", [
    ("self_signed", "verify-full", "works"),
    ("version 1", "require", "works"),
    ("version 1", "verify-ca", "UnsupportedCertVersion"),
])
def test_certificates_as_operators_make_them(start, certificates, own_postgres, how, mode, outcome):
    if how == "self_signed":
        cert, key = certificates.self_signed("localhost")
    else:
        cert, key = certificates.issue("localhost.v1", version=1)
    own_postgres.stop()
    encrypt(own_postgres, certificates, cert, key)
    own_postgres.start()
    ca = {"ca": cert if how == "self_signed" else certificates.ca}
    domains = servers(own_postgres, mode, **(ca if mode != "require" else {}))
    proxy = start(postgres=own_postgres, database="postgres", pool={"timeout": "3s"}, domains=domains)

    if outcome == "works":
        assert proxy.ask(IS_ENCRYPTED) is True
    else:
        assert outcome in refused(proxy).detail


def test_keys_are_read_in_every_form_that_openssl_writes(start, certificates):
    for form, (cert, key) in certificates.key_in_other_forms("formed").items():
        proxy = start(listen={"tls": {"mode": "require", "cert": cert, "key": key}})
        assert proxy.ask("SELECT 1", host="localhost", sslmode="require") == 1, form


def check(tmp_path, tls: str) -> subprocess.CompletedProcess:
    config = tmp_path / "pgweir.toml"
    config.write_text(
        f'[listen]\ntls = {{ {tls} }}\n[auth]\nmethod = "trust"\n[domains.a]\nhosts = ["db"]\n'
    )
    return subprocess.run(
        [binary(), "check", "--config", str(config)], capture_output=True, text=True, timeout=30,
    )


def test_check_names_the_line_of_what_does_not_fit_and_warns_of_what_may_hurt(tmp_path, certificates):
    shutil.copy(certificates.path("localhost.crt"), tmp_path / "server.crt")
    shutil.copy(certificates.path("localhost.key"), tmp_path / "server.key")
    shutil.copy(certificates.path("app.key"), tmp_path / "other.key")
    pair = 'mode = "require", cert = "server.crt", key = "{}"'

    wrong = check(tmp_path, pair.format("other.key"))
    assert wrong.returncode == 1
    assert f"pgweir.toml:2: listen.tls.key: {tmp_path}/other.key is not the private key" in wrong.stderr

    gone = check(tmp_path, pair.format("gone.key"))
    assert gone.returncode == 1 and "listen.tls.key" in gone.stderr and "cannot be read" in gone.stderr

    (tmp_path / "server.key").chmod(0o644)
    careless = check(tmp_path, pair.format("server.key"))
    assert careless.returncode == 0 and "every user of this machine can read" in careless.stdout
    (tmp_path / "server.key").chmod(0o600)
    careful = check(tmp_path, pair.format("server.key"))
    assert careful.returncode == 0 and "every user" not in careful.stdout
