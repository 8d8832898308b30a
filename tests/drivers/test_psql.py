"""psql through a pool: what a person at a terminal types and reads."""

from __future__ import annotations

import pytest

from support.programs import run_client

pytestmark = pytest.mark.each_pool


def psql(proxy, *args: str, **how):
    return run_client("psql", "-X", "-q", "-A", "-t", *args, proxy=proxy, **how)


def test_each_c_option_runs_and_prints(proxy):
    done = psql(proxy, "-c", "SELECT 1", "-c", "SELECT 'two'")

    assert (done.returncode, done.stdout) == (0, "1\ntwo\n")


def test_d_describes_a_table(proxy):
    psql(proxy, "-c", "CREATE TABLE weir (id int PRIMARY KEY, height numeric NOT NULL)")

    done = run_client("psql", "-X", "-c", r"\d weir", proxy=proxy)

    assert "numeric" in done.stdout and '"weir_pkey" PRIMARY KEY' in done.stdout


def test_backslash_copy_carries_rows_in_and_out(proxy, tmp_path):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("".join(f"{i},row {i}\n" for i in range(5000)))
    psql(proxy, "-c", "CREATE TABLE t (id int, name text)")

    done = psql(
        proxy,
        "-c", rf"\copy t FROM '{source}' CSV",
        "-c", rf"\copy (SELECT * FROM t ORDER BY id) TO '{target}' CSV",
    )

    assert done.returncode == 0, done.stderr
    assert target.read_text() == source.read_text()


def test_a_script_stops_at_its_first_error_when_told_to(proxy):
    script = "CREATE TABLE t (id int);\nSELECT 1/0;\nINSERT INTO t VALUES (1);\n"

    done = psql(proxy, "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-f", "-", stdin=script)

    assert done.returncode == 3
    assert "22012" in done.stderr and "division by zero" in done.stderr
    assert proxy.ask("SELECT count(*) FROM t") == 0


def test_a_single_transaction_script_leaves_nothing_when_it_fails(proxy):
    script = "CREATE TABLE t (id int);\nSELECT 1/0;\n"

    psql(proxy, "-1", "-v", "ON_ERROR_STOP=1", "-f", "-", stdin=script)

    assert proxy.ask("SELECT to_regclass('t')") is None


def test_gdesc_describes_without_running(proxy):
    done = psql(proxy, stdin="SELECT 1 / 0 AS n \\gdesc\n")

    assert done.stdout == "n|integer\n"


def test_fetch_count_reads_a_result_through_a_cursor(proxy):
    done = psql(proxy, "-v", "FETCH_COUNT=100", "-c", "SELECT generate_series(1, 1000)")

    assert done.stdout.splitlines() == [str(n) for n in range(1, 1001)]


def test_a_unix_socket_serves_as_tcp_does(proxy):
    done = psql(proxy, "-c", "SELECT 'over a socket'", host=proxy.socket_folder)

    assert (done.returncode, done.stdout) == (0, "over a socket\n")


@pytest.mark.targets("direct")
def test_a_wrong_password_reads_as_postgresql_words_it(proxy):
    done = psql(proxy, "-c", "SELECT 1", password="wrong")

    assert done.returncode == 2
    assert 'FATAL:  password authentication failed for user "app"' in done.stderr


@pytest.mark.targets("pgbouncer")
def test_an_unknown_database_reads_as_pgbouncer_words_it(proxy):
    done = psql(proxy, "-c", "SELECT 1", dbname="nowhere")

    assert done.returncode == 2
    assert "no such database: nowhere" in done.stderr


def test_a_pg_dump_of_the_database_restores_it(proxy, postgres):
    psql(proxy, "-c", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")

    dump = run_client("pg_dump", "--no-owner", proxy=proxy)

    assert dump.returncode == 0, dump.stderr
    assert dump.stdout.count("\n") > 1000 and "CREATE TABLE public.t" in dump.stdout
