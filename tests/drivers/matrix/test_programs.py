"""Drivers of other languages: a program for each runs its checks over a pool of one and of four.

A program prints `ok` and the name of each check that passed, and ends with 1 if one did not.
`make matrix` installs the languages and builds what has to be built.
"""

from __future__ import annotations

import os
import shutil
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
def test_every_check_of_the_driver_passes(proxy, postgres, driver, monkeypatch):
    # sqlx sends no cancel requests: its program cancels past the proxy.
    monkeypatch.setenv("DIRECT_PORT", str(postgres.port))
    passes(proxy, *PROGRAMS[driver])


def test_the_macros_of_sqlx_are_checked_while_they_are_compiled(proxy, observer, tmp_path):
    """In a package of its own: nothing is compiled yet, but for what it depends on."""
    rust = HERE / "rust"
    for source, name in {
        "Cargo.toml": "Cargo.toml", "Cargo.lock": "Cargo.lock", "src/lib.rs": "src/lib.rs",
        "macros/main.rs": "src/main.rs",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(rust / source, tmp_path / name)
    run = [
        "cargo", "run", "--quiet", "--locked", "--offline",
        "--manifest-path", str(tmp_path / "Cargo.toml"), "--target-dir", str(BUILT / "rust"),
    ]

    done = run_program(proxy, *run)
    assert done.returncode != 0 and 'relation "parts" does not exist' in done.stderr, done.stderr

    observer.execute("CREATE TABLE parts (id int PRIMARY KEY, name text NOT NULL, parent int)")
    observer.execute("GRANT ALL ON parts TO app")
    passes(proxy, *run)


def passes(proxy, *command: str) -> None:
    """Runs a program's checks; all have to pass."""
    done = run_program(proxy, *command)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines and all(line.startswith("ok ") for line in lines), done.stdout


def run_program(proxy, *command: str) -> subprocess.CompletedProcess:
    params = proxy.params()
    env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    env |= {
        "PGHOST": params["host"], "PGPORT": str(params["port"]), "PGUSER": params["user"],
        "PGPASSWORD": params["password"], "PGDATABASE": params["dbname"],
        "DATABASE_URL": proxy.url(),
    }
    return subprocess.run(
        command, cwd=HERE, env=env, capture_output=True, text=True, timeout=240
    )
