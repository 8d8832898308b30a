"""PostgreSQL's own clients: psql, pgbench, pg_dump and pg_restore."""

from __future__ import annotations

import os
import subprocess

from .postgres import program


def client_environment(proxy, **params) -> dict[str, str]:
    """The proxy's connection parameters as libpq's variables, and nothing of the caller's own."""
    changed = proxy.params(**params)
    env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return env | {
        "PGHOST": changed["host"], "PGPORT": str(changed["port"]), "PGUSER": changed["user"],
        "PGDATABASE": changed["dbname"], "PGPASSWORD": changed.get("password", ""),
        "PGOPTIONS": changed.get("options", ""), "PGCONNECT_TIMEOUT": "10", "LC_ALL": "C.UTF-8",
    }


def run_client(name: str, *args: str, proxy=None, stdin: str = "", **params):
    """Runs one of them with the proxy's connection parameters in its environment."""
    env = client_environment(proxy, **params)
    return subprocess.run(
        [program(name), *args], env=env, input=stdin, capture_output=True, text=True, timeout=50
    )
