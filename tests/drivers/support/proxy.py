"""What a test talks to: pgweir with a configuration of its own, or a stand-in for it.

The stand-ins (`--target=direct`, `--target=pgbouncer`) show that a test is right about PostgreSQL
and fair to a pooler; pgweir is what the suite is for.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg2

from . import toml
from .postgres import APP, SUPERUSER, Postgres
from .process import (
    give_to_unprivileged, resident_kib, spawn, temporary_folder, unprivileged,
)
from .wait import accepts_tcp, free_port, wait_until

ADMIN = ("pgweir", "admin secret")
STATS = ("prometheus", "stats secret")
USERS = [APP, SUPERUSER, ADMIN, STATS]

REPOSITORY = Path(__file__).resolve().parents[3]

_BROKEN = re.compile(r"panicked|\bpanic\b|ERROR.*\bbug\b", re.IGNORECASE)


class Proxy:
    """An address that speaks PostgreSQL, and the domains behind it."""

    host = "127.0.0.1"
    port: int
    database: str
    """What a client of this test names as `dbname`."""
    socket_folder: str
    user, password = APP

    def params(self, **changes) -> dict:
        """libpq's keywords; `None` leaves one out."""
        params = {
            "host": self.host, "port": self.port, "dbname": self.database,
            "user": self.user, "password": self.password, "connect_timeout": 10,
        }
        params.update(changes)
        return {key: value for key, value in params.items() if value is not None}

    def connect(self, autocommit: bool = False, **changes):
        """A psycopg2 connection."""
        conn = psycopg2.connect(**self.params(**changes))
        conn.autocommit = autocommit
        return conn

    def ask(self, sql: str, *args, **changes):
        """The first value of a query on a connection of its own."""
        conn = self.connect(autocommit=True, **changes)
        try:
            cursor = conn.cursor()
            cursor.execute(sql, args or None)
            return cursor.fetchone()[0]
        finally:
            conn.close()

    def url(self, scheme: str = "postgresql", **changes) -> str:
        """A connection URL for SQLAlchemy or asyncpg."""
        p = self.params(connect_timeout=None, **changes)
        address = ("host", "port", "dbname", "user", "password")
        query = {key: value for key, value in p.items() if key not in address}
        tail = "?" + urlencode(query) if query else ""
        login = f"{quote(p['user'])}:{quote(p['password'])}"
        return f"{scheme}://{login}@{p['host']}:{p['port']}/{quote(p['dbname'])}{tail}"

    def asyncpg_params(self, **changes) -> dict:
        """asyncpg's keywords."""
        params = {
            "host": self.host, "port": self.port, "database": self.database,
            "user": self.user, "password": self.password, "timeout": 10,
        }
        params.update(changes)
        return params

    def kill(self) -> None:
        """Ends it at once: the watchdog's way out of a test that hangs."""

    def finish(self) -> None:
        """Stops it and complains about what it did wrong."""


class Direct(Proxy):
    """No proxy at all: PostgreSQL itself."""

    def __init__(self, postgres: Postgres, database: str, **_config) -> None:
        self.port = postgres.port
        self.database = database
        self.socket_folder = str(postgres.folder)


class _Daemon(Proxy):
    """What pgweir and PgBouncer have in common: a folder, a process, a log."""

    name: str

    def __init__(self, database: str) -> None:
        self.port = free_port()
        self.database = database
        self.folder = temporary_folder(self.name)
        self.socket_folder = str(self.folder)
        self.log_file = self.folder / f"{self.name}.log"
        self.process: subprocess.Popen | None = None
        self._killed = False

    def log(self) -> str:
        """Everything that it has logged."""
        return self.log_file.read_text(errors="replace")

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self._killed = True
            self.process.kill()

    def stop(self, how: signal.Signals = signal.SIGTERM, deadline: float = 15.0) -> int:
        """Sends a signal and returns the exit code."""
        assert self.process, f"{self.name} was never started"
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                f"{self.name} did not stop within {deadline:g} s of {how.name}:\n{self.log()}"
            ) from None

    def finish(self) -> None:
        try:
            if self.process:
                code = self.stop()
                assert not self._killed, f"the test hung; {self.name} was killed:\n{self.log()}"
                self._judge(code)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _judge(self, code: int) -> None:
        """Whether it ended well."""

    def _wait_ready(self, ready) -> None:
        def ready_or_dead() -> bool:
            assert self.process
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode} at start")
            return ready()

        try:
            wait_until(ready_or_dead, f"{self.name} is ready")
        except AssertionError as problem:
            self.kill()
            log = self.log()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise AssertionError(f"{problem}\n{log}") from None


class Pgweir(_Daemon):
    """pgweir on free ports, with a configuration in its own folder."""

    name = "pgweir"

    def __init__(self, postgres: Postgres, database: str, **config) -> None:
        super().__init__(database)
        self.http_port = free_port()
        self.config_file = self.folder / "pgweir.toml"
        self.config_file.write_text(toml.dumps(self._config(postgres, config)))
        write_users(self.folder / "users.txt", config.get("user_secrets", USERS))
        self.process = spawn(self._command(), self.log_file, signal.SIGKILL)
        self._wait_ready(lambda: self.get("/readyz")[0] == 200)

    def _command(self) -> list[str]:
        return [binary(), "serve", "--config", str(self.config_file)]

    def get(self, path: str) -> tuple[int, str]:
        """GET over HTTP: status and body; status 0 if nobody answers."""
        conn = http.client.HTTPConnection(self.host, self.http_port, timeout=5)
        try:
            conn.request("GET", path)
            answer = conn.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            conn.close()

    def status(self) -> dict:
        """`/status`."""
        code, body = self.get("/status")
        assert code == 200, f"/status: {code} {body}"
        return json.loads(body)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry the labels."""
        return sum(
            value for sample, has, value in self.samples()
            if sample == name and labels.items() <= has.items()
        )

    def samples(self) -> list[tuple[str, dict, float]]:
        """`/metrics`: name, labels and value of each sample."""
        code, body = self.get("/metrics")
        assert code == 200, f"/metrics: {code} {body}"
        return [parse_sample(line) for line in body.splitlines() if line and line[0] != "#"]

    def rss_kib(self) -> int:
        """Its resident memory."""
        assert self.process
        return resident_kib(self.process.pid)

    def show(self, what: str, user: tuple[str, str] = STATS) -> list[dict]:
        """The rows of a console's SHOW."""
        conn = self.connect(autocommit=True, dbname="pgweir", user=user[0], password=user[1])
        try:
            cursor = conn.cursor()
            cursor.execute(f"SHOW {what}")
            columns = [column.name for column in cursor.description]
            return [dict(zip(columns, row)) for row in cursor.fetchall()]
        finally:
            conn.close()

    def _judge(self, code: int) -> None:
        log = self.log()
        assert code == 0, f"pgweir ended with {code}:\n{log}"
        broken = [line for line in log.splitlines() if _BROKEN.search(line)]
        assert not broken, "pgweir's log tells of a bug:\n" + "\n".join(broken)

    def _config(self, postgres: Postgres, config: dict) -> dict:
        """The defaults of a test with the test's own keys laid over them."""
        domain = {
            "database": self.database, "hosts": [f"127.0.0.1:{postgres.port}"],
            "user": APP[0], "password": APP[1],
        }
        domains = config.get("domains", {"main": {}})
        return {
            "listen": {
                "addresses": [f"127.0.0.1:{self.port}", str(self.folder)],
                **config.get("listen", {}),
            },
            "http": {"address": f"127.0.0.1:{self.http_port}", **config.get("http", {})},
            "log": {"level": "info", **config.get("log", {})},
            "runtime": {"shutdown_timeout": "5s", **config.get("runtime", {})},
            "auth": {"users_file": "users.txt", **config.get("auth", {})},
            "admin": {"users": [ADMIN[0]], "stats_users": [STATS[0]]},
            "pool": {"size": 4, "max_overflow": 0, "timeout": "10s", **config.get("pool", {})},
            "hosts": config.get("hosts", {}),
            "users": config.get("users", {}),
            "domains": {
                name: {k: v for k, v in {**domain, **keys}.items() if v is not None}
                for name, keys in domains.items()
            },
        }


class PgBouncer(_Daemon):
    """Debian's PgBouncer with the same settings, as far as it has them."""

    name = "pgbouncer"

    def __init__(self, postgres: Postgres, database: str, **config) -> None:
        super().__init__(database)
        give_to_unprivileged(self.folder)
        pool = {"size": 4, "timeout": "10s", "pool_mode": "transaction", **config.get("pool", {})}
        domains = config.get("domains", {"main": {}})
        rows = "\n".join(
            f"{keys.get('database', database)} = host=127.0.0.1 port={postgres.port}"
            f" user={keys.get('user', APP[0])} password='{keys.get('password', APP[1])}'"
            for keys in domains.values()
        )
        ini = self.folder / "pgbouncer.ini"
        ini.write_text(f"""\
[databases]
{rows}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir = {self.folder}
auth_type = {config.get('auth', {}).get('method', 'scram-sha-256')}
auth_file = {self.folder}/users.txt
pool_mode = {pool['pool_mode']}
default_pool_size = {pool['size']}
max_client_conn = {config.get('listen', {}).get('max_clients', 1000)}
query_wait_timeout = {pool['timeout'].rstrip('ms')}
""")
        write_users(self.folder / "users.txt", config.get("user_secrets", USERS))
        self.process = spawn(
            ["/usr/sbin/pgbouncer", str(ini)], self.log_file, signal.SIGKILL, **unprivileged()
        )
        self._wait_ready(lambda: accepts_tcp(self.port))

    def stop(self, how: signal.Signals = signal.SIGINT, deadline: float = 15.0) -> int:
        return super().stop(signal.SIGQUIT if how == signal.SIGINT else how, deadline)


TARGETS = {"pgweir": Pgweir, "pgbouncer": PgBouncer, "direct": Direct}


def binary() -> str:
    """The program under test: $PGWEIR_BIN, or what `cargo build` left behind."""
    if named := os.environ.get("PGWEIR_BIN"):
        return named
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    built = target / "debug" / "pgweir"
    assert built.exists(), f"{built} is missing: run `cargo build`, or set PGWEIR_BIN"
    return str(built)


def write_users(path: Path, users: list[tuple[str, str]]) -> None:
    """A users file in PgBouncer's format."""
    path.write_text("".join(f'"{name}" "{secret}"\n' for name, secret in users))


def parse_sample(line: str) -> tuple[str, dict, float]:
    """One line of Prometheus text."""
    match = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
    assert match, f"not a Prometheus sample: {line!r}"
    labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
    return match[1], labels, float(match[3])
