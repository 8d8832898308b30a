"""Drivers of other languages: a program for each runs its checks over a pool of one and of four.

A program prints `ok` and the name of each check that passed, and ends with 1 if one did not.
`make matrix` installs the languages and builds what has to be built.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.proxy import REPOSITORY

HERE = Path(__file__).parent
BUILT = REPOSITORY / "target/matrix"
"""Where `build.sh` puts programs."""

pytestmark = [
    pytest.mark.targets("direct"), pytest.mark.each_pool, pytest.mark.timeout(300),
]

PROGRAMS = {
    "node-postgres": ["node", "node/pg.js"],
    "postgres.js": ["node", "node/postgres.js"],
    "PgJDBC": ["java", "-Xmx256m", "-cp", "/usr/share/java/postgresql.jar", "jdbc/Matrix.java"],
    "pgx": [str(BUILT / "go-pgx")],
    "lib/pq": [str(BUILT / "go-pq")],
    "tokio-postgres": [str(BUILT / "rust/debug/tokio_postgres")],
    "sqlx": [str(BUILT / "rust/debug/sqlx")],
}


@pytest.mark.parametrize("driver", PROGRAMS)
def test_every_check_of_the_driver_passes(proxy, driver):
    passes(proxy, *PROGRAMS[driver])


def test_the_macros_of_sqlx_can_be_compiled_in_session_mode(start):
    passes(start(pool={"pool_mode": "session", "size": 1}), *PROGRAMS["sqlx"], "describe")


def passes(proxy, *command: str) -> None:
    """Runs a program's checks; all have to pass."""
    params = proxy.params()
    env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    env |= {
        "PGHOST": params["host"], "PGPORT": str(params["port"]), "PGUSER": params["user"],
        "PGPASSWORD": params["password"], "PGDATABASE": params["dbname"],
    }

    done = subprocess.run(
        command, cwd=HERE, env=env, capture_output=True, text=True, timeout=240
    )

    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines and all(line.startswith("ok ") for line in lines), done.stdout
