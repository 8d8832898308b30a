"""pg_dump and pg_restore through a pool: a dump is the one that would be made without it."""

from __future__ import annotations

import pytest

from support.programs import run_client
from support.proxy import Direct

pytestmark = pytest.mark.targets("direct")

SETTINGS = (
    "-c search_path= -c row_security=off -c check_function_bodies=off -c extra_float_digits=3"
    " -c synchronize_seqscans=off -c default_table_access_method=heap"
)
"""What the two set for their session, which ends with the first transaction of a pool's client."""

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE a (id serial PRIMARY KEY, n numeric, t text, m mood DEFAULT 'sad', x float8);
INSERT INTO a (n, t, x) SELECT i * 1.5, 'row ' || i, i / 7.0 FROM generate_series(1, 20000) i;
CREATE INDEX by_t ON a (t);
CREATE TABLE b (id int REFERENCES a, at timestamptz DEFAULT '2038-01-19 03:14:08+00');
INSERT INTO b (id) SELECT id FROM a;
CREATE FUNCTION early(x a) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM a';
CREATE VIEW v AS SELECT a.id, other.t FROM a JOIN a other USING (id);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER noted BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION noted();
ALTER TABLE b ENABLE ROW LEVEL SECURITY;
SELECT lo_from_bytea(4711, 'a large object');
COMMENT ON TABLE a IS 'naïve 漢字';
"""


@pytest.fixture
def twin(postgres, database):
    """An empty database beside the test's own."""
    name = f"{database}_twin"
    postgres.create_database(name)
    yield name
    postgres.drop_database(name)


@pytest.fixture(params=[1, 4], ids=lambda size: f"pool-of-{size}")
def pooled(request, start, twin):
    """Both databases behind a pool of one or of four servers each; the first one is filled."""
    proxy = start(
        pool={"size": request.param, "timeout": "30s"}, domains={"main": {}, "twin": {"database": twin}}
    )
    fill(proxy)
    return proxy


def fill(proxy) -> None:
    done = run_client("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", SCHEMA, proxy=proxy)
    assert done.returncode == 0, done.stderr


def run(name: str, *args: str, proxy, **params) -> str:
    """What one of the two prints; it must not complain."""
    done = run_client(name, *args, proxy=proxy, **params)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def dumped(proxy, **params) -> list[str]:
    """A plain dump, without the lines that are random."""
    lines = run("pg_dump", proxy=proxy, **params).splitlines()
    return [line for line in lines if "restrict " not in line]


def test_a_plain_dump_is_the_one_made_directly(pooled, postgres, database):
    through = dumped(pooled, options=SETTINGS)

    assert through == dumped(Direct(postgres, database))
    assert any("FROM (public.a" in line for line in through)


def test_a_plain_dump_in_session_mode_needs_no_options(start, postgres, database):
    proxy = start(pool={"size": 1, "pool_mode": "session"})
    fill(proxy)

    assert dumped(proxy) == dumped(Direct(postgres, database))


@pytest.mark.targets()
def test_without_its_settings_a_dump_names_tables_without_their_schema(pooled):
    """Why the options are needed before PostgreSQL 18, which reports search_path."""
    version = pooled.ask("SELECT current_setting('server_version_num')::int")
    line = "FROM (public.a" if version >= 180_000 else "FROM (a"

    assert any(line in shown for shown in dumped(pooled))


HIDDEN = "ALTER TABLE b FORCE ROW LEVEL SECURITY"
"""From now on the owner, too, sees only what a policy allows: nothing."""


def test_a_dump_that_row_level_security_would_make_incomplete_fails(pooled):
    run("psql", "-X", "-q", "-c", HIDDEN, proxy=pooled)

    done = run_client("pg_dump", proxy=pooled, options=SETTINGS)

    assert done.returncode == 1
    assert "query would be affected by row-level security policy" in done.stderr


@pytest.mark.targets()
def test_without_its_settings_a_dump_lacks_what_row_level_security_hides(pooled):
    run("psql", "-X", "-q", "-c", HIDDEN, proxy=pooled)

    assert sum(line.endswith("\t2038-01-19 03:14:08+00") for line in dumped(pooled)) == 0


@pytest.mark.parametrize("how", [(), ("--single-transaction",), ("--jobs=4",)], ids=str)
def test_a_custom_dump_restored_through_the_pool_is_the_same_database(
    pooled, postgres, database, twin, tmp_path, how
):
    file = str(tmp_path / "dump")
    run("pg_dump", "--format=custom", f"--file={file}", proxy=pooled, options=SETTINGS)

    run("pg_restore", *how, f"--dbname={twin}", "--exit-on-error", file, proxy=pooled, options=SETTINGS)

    assert dumped(Direct(postgres, twin)) == dumped(Direct(postgres, database))


def test_a_plain_dump_restored_by_psql_is_the_same_database(pooled, postgres, database, twin):
    script = run("pg_dump", proxy=pooled, options=SETTINGS)

    done = run_client(
        "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", proxy=pooled, stdin=script, dbname=twin,
        options=SETTINGS,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert dumped(Direct(postgres, twin)) == dumped(Direct(postgres, database))


def test_a_dump_by_three_jobs_needs_four_servers_and_has_one_snapshot(
    start, postgres, database, twin, tmp_path
):
    # Each job stays in a transaction to the end, and so does the one that leads them.
    proxy = start(pool={"size": 4}, domains={"main": {}, "twin": {"database": twin}})
    fill(proxy)
    folder = str(tmp_path / "dump")

    run("pg_dump", "--format=directory", "--jobs=3", f"--file={folder}", proxy=proxy, options=SETTINGS)
    run("pg_restore", "--jobs=3", f"--dbname={twin}", folder, proxy=proxy, options=SETTINGS)

    assert dumped(Direct(postgres, twin)) == dumped(Direct(postgres, database))
