"""PostgreSQL's own clients: psql and pgbench."""

from __future__ import annotations

import os
import subprocess

from .postgres import program


def run_client(name: str, *args: str, proxy=None, stdin: str = "", **params):
    """Runs psql or pgbench with the proxy's connection parameters in its environment."""
    changed = proxy.params(**params)
    # Nothing of the caller's own PostgreSQL settings may leak in.
    env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    env |= {
        "PGHOST": changed["host"], "PGPORT": str(changed["port"]), "PGUSER": changed["user"],
        "PGDATABASE": changed["dbname"], "PGPASSWORD": changed.get("password", ""),
        "PGCONNECT_TIMEOUT": "10", "LC_ALL": "C.UTF-8",
    }
    return subprocess.run(
        [program(name), *args], env=env, input=stdin, capture_output=True, text=True, timeout=50
    )
