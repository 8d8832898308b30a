"""psql through a pool: what a person at a terminal types and reads."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import termios
import time
from contextlib import contextmanager

import pytest

from support.postgres import program
from support.programs import client_environment, run_client
from support.proxy import REPOSITORY, Direct
from support.wait import wait_until

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


DESCRIBED = """
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE weir (id serial PRIMARY KEY, height numeric NOT NULL, mood mood, share percent);
CREATE TABLE part (id int REFERENCES weir, at date) PARTITION BY RANGE (at);
CREATE VIEW high AS SELECT * FROM weir WHERE height > 10;
CREATE INDEX by_height ON weir (height);
CREATE STATISTICS both_columns ON id, height FROM weir;
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
COMMENT ON TABLE weir IS 'holds a river back';
GRANT SELECT ON weir TO other_role;
"""

DESCRIBING = [
    "d", "d weir", "d+ weir", "d+ high", "d part", "d by_height", "dA", "da", "db", "dC", "dc", "dD+",
    "dd", "dE", "des", "det", "deu", "dew", "dF", "dFd", "dFp", "dFt", "df+ twice", "dg", "di+", "dL",
    "dl", "dm", "dn+", "do", "dO", "dP", "dp", "drds", "dRp", "dRs", "ds", "dT+", "dt+", "du", "dv+",
    "dx", "dX", "dy", "l", "sf twice", "sv high", "z weir", "encoding", "ddp", "dconfig work_mem",
]


def test_every_d_command_shows_what_it_shows_directly(proxy, postgres, database):
    psql(proxy, "-v", "ON_ERROR_STOP=1", "-c", DESCRIBED)
    script = "".join(f"\\echo {command}\n\\{command}\n" for command in DESCRIBING)

    through = run_client("psql", "-X", "-q", proxy=proxy, stdin=script)
    direct = run_client("psql", "-X", "-q", proxy=Direct(postgres, database), stdin=script)

    assert through.stderr == direct.stderr == ""
    assert through.stdout == direct.stdout


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


def test_a_single_transaction_script_that_succeeds_is_committed(proxy):
    done = psql(proxy, "-1", "-f", "-", stdin="CREATE TABLE t (id int);\nINSERT INTO t VALUES (1);\n")

    assert (done.returncode, done.stderr) == (0, "")
    assert proxy.ask("SELECT count(*) FROM t") == 1


def test_without_autocommit_a_script_ends_its_transactions_itself(proxy):
    script = "CREATE TABLE t (id int);\nCOMMIT;\nINSERT INTO t VALUES (1);\nROLLBACK;\nTABLE t;\n"

    done = psql(proxy, "-v", "AUTOCOMMIT=off", "-f", "-", stdin=script)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_on_error_rollback_keeps_the_block_after_an_error(proxy):
    script = "BEGIN;\nCREATE TABLE t AS SELECT 1 AS id;\nSELECT 1/0;\nINSERT INTO t VALUES (2);\nCOMMIT;\n"

    done = psql(proxy, "-v", "ON_ERROR_ROLLBACK=on", "-f", "-", stdin=script)

    assert "division by zero" in done.stderr and "25P02" not in done.stderr
    assert proxy.ask("SELECT count(*) FROM t") == 2


def test_a_single_transaction_script_leaves_nothing_when_it_fails(proxy):
    script = "CREATE TABLE t (id int);\nSELECT 1/0;\n"

    psql(proxy, "-1", "-v", "ON_ERROR_STOP=1", "-f", "-", stdin=script)

    assert proxy.ask("SELECT to_regclass('t')") is None


def test_gdesc_describes_without_running(proxy):
    done = psql(proxy, stdin="SELECT 1 / 0 AS n \\gdesc\n")

    assert done.stdout == "n|integer\n"


def test_gset_gexec_and_crosstabview_use_what_a_query_gave(proxy):
    script = r"""
SELECT 7 AS n \gset
SELECT :n * 6;
SELECT format('SELECT %s', n) FROM generate_series(1, 3) n \gexec
SELECT n % 2, n % 3, n FROM generate_series(1, 6) n \crosstabview
"""

    done = psql(proxy, stdin=script)

    assert done.stderr == ""
    assert done.stdout.splitlines()[:4] == ["42", "1", "2", "3"]


def test_watch_runs_until_its_query_fails(proxy):
    psql(proxy, "-c", "CREATE TABLE t (id serial, rest int)")

    done = psql(proxy, stdin="INSERT INTO t (rest) VALUES (0) RETURNING 6 / (4 - id) \\watch 0.1\n")

    assert "division by zero" in done.stderr
    assert proxy.ask("SELECT count(*) FROM t") == 3


def test_a_large_object_is_imported_and_exported(proxy, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(bytes(range(256)) * 1000)

    done = psql(
        proxy, stdin=f"\\lo_import {source}\n\\lo_export :LASTOID {target}\n\\lo_unlink :LASTOID\n"
    )

    assert done.stderr == ""
    assert target.read_bytes() == source.read_bytes()


def take_terminal() -> None:
    """Makes the terminal the one whose Ctrl-C this process hears."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(proxy):
    """psql at a terminal, as a person has it: yields what types and what reads."""
    ours, theirs = pty.openpty()
    env = client_environment(proxy) | {"TERM": "dumb", "PAGER": "cat", "HISTFILE": "/dev/null"}
    shell = subprocess.Popen(
        [program("psql"), "-X", "-A", "-t"], env=env, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, preexec_fn=take_terminal,
    )
    os.close(theirs)
    seen = ""

    def type_in(text: str) -> None:
        os.write(ours, text.encode())

    def read_until(pattern: str) -> str:
        nonlocal seen
        end = time.monotonic() + 20
        while not (found := re.search(pattern, seen)):
            assert time.monotonic() < end, f"no {pattern!r} in {seen!r}"
            if select.select([ours], [], [], 0.1)[0]:
                seen += os.read(ours, 65536).decode(errors="replace")
        seen = seen[found.end():]
        return found[0]

    try:
        yield type_in, read_until
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def test_ctrl_c_cancels_the_query_and_psql_goes_on(proxy, observer):
    def sleeps() -> bool:
        observer.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
            " AND datname = current_database() AND query LIKE 'SELECT pg_sleep%'"
        )
        return observer.fetchone()[0] == 1

    with terminal(proxy) as (type_in, read_until):
        read_until("=> ")
        for turn in range(3):
            type_in("SELECT pg_sleep(30);\r")
            # A cancel that comes before the query has begun does nothing.
            wait_until(sleeps, "the query runs")
            type_in("\x03")
            read_until("canceling statement due to user request")
            type_in(f"SELECT 'answer', {turn} + 40;\r")
            read_until(rf"answer\|{turn + 40}")


def test_backslash_c_connects_again(proxy):
    done = psql(proxy, stdin="SELECT 1;\n\\c\nSELECT 2;\n")

    assert (done.stdout, done.stderr) == ("1\n2\n", "")


def test_bind_parse_and_pipelines_of_a_newer_psql_work(proxy):
    # psql has these since 16 and 18, and setup.sh puts one of 18 there.
    newest = str(REPOSITORY / ".postgresql/18/bin/psql")
    script = r"""
SELECT $1::int + $2 \bind 40 2 \g
SELECT $1::text || '!' \parse greet
\bind_named greet hello \g
\bind_named greet bye \g
\close_prepared greet
\startpipeline
SELECT $1 \bind first \sendpipeline
SELECT $1 \bind second \sendpipeline
\endpipeline
"""
    env = client_environment(proxy)

    done = subprocess.run(
        [newest, "-X", "-q", "-A", "-t"], env=env, input=script, capture_output=True, text=True,
        timeout=50,
    )

    assert (done.stdout.split(), done.stderr) == (["42", "hello!", "bye!", "first", "second"], "")


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
