"""A throwaway PostgreSQL cluster: initdb in a temporary folder, a free port, real logins."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Callable

import psycopg2

from .process import give_to_unprivileged, spawn, temporary_folder, unprivileged
from .wait import free_port, wait_until

SUPERUSER = ("postgres", "root")
"""The first seed's user and password."""
APP = ("app", "app secret")
APP_MD5 = ("app_md5", "md5 secret")
APP_PLAIN = ("app_plain", "plain secret")

_HBA = """\
local all all                    trust
host  all app_md5   127.0.0.1/32 md5
host  all app_plain 127.0.0.1/32 password
host  all all       127.0.0.1/32 scram-sha-256
"""

_SETTINGS = """\
listen_addresses = '127.0.0.1'
max_connections = 60
max_prepared_transactions = 10
shared_buffers = 32MB
fsync = off
full_page_writes = off
max_wal_size = 256MB
autovacuum = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %a '
"""

_ROLES = f"""
ALTER ROLE postgres PASSWORD '{SUPERUSER[1]}';
CREATE ROLE {APP[0]} LOGIN PASSWORD '{APP[1]}';
CREATE ROLE {APP_PLAIN[0]} LOGIN PASSWORD '{APP_PLAIN[1]}';
CREATE ROLE other_role;
GRANT other_role TO {APP[0]};
SET password_encryption = 'md5';
CREATE ROLE {APP_MD5[0]} LOGIN PASSWORD '{APP_MD5[1]}';
"""


def program(name: str) -> str:
    """Where one of PostgreSQL's programs is: $PG_BIN, PATH, Debian's folders, newest first."""
    if folder := os.environ.get("PG_BIN"):
        return str(Path(folder) / name)
    return installed_program(name)


def installed_program(name: str) -> str:
    """The system's own, whatever $PG_BIN says: its clients can do TLS, which not all builds can."""
    if found := shutil.which(name):
        # Debian's client wrappers insist on a cluster of the system.
        if "pg_wrapper" not in os.path.realpath(found):
            return found
    folders = glob.glob("/usr/lib/postgresql/*/bin")
    for folder in sorted(folders, key=lambda f: int(f.split("/")[4]), reverse=True):
        path = Path(folder) / name
        if path.exists():
            return str(path)
    raise RuntimeError(f"PostgreSQL's `{name}` not found: run tests/setup.sh, or set PG_BIN")


def in_memory() -> str | None:
    """A folder in memory, where a database is created in a third of the time; None without room.

    A run that copies gigabytes has its cluster on the disk.
    """
    folder = "/dev/shm"
    if "PGWEIR_COPY_MB" in os.environ or not os.access(folder, os.W_OK):
        return None
    return folder if shutil.disk_usage(folder).free >= 4 << 30 else None


class Postgres:
    """A cluster of its own. `start`, `stop` and `start` again keep port and data."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = temporary_folder("postgres", in_memory())
        give_to_unprivileged(self.folder)
        self.data = self.folder / "data"
        self.log_file = self.folder / "postgres.log"
        self._process: subprocess.Popen | None = None
        self._initdb()
        self.start()
        self._run_sql(_ROLES)

    def _initdb(self) -> None:
        done = subprocess.run(
            [program("initdb"), "-D", str(self.data), "-U", SUPERUSER[0], "-A", "trust",
             "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"],
            cwd=self.folder, capture_output=True, text=True, timeout=60, **unprivileged(),
        )
        assert done.returncode == 0, f"initdb failed:\n{done.stdout}{done.stderr}"
        (self.data / "pg_hba.conf").write_text(_HBA)
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
            settings.write(f"port = {self.port}\nunix_socket_directories = '{self.folder}'\n")

    def start(self, is_there: Callable[[], bool] | None = None) -> None:
        """Starts the server and returns when it answers, or when something else says that it is there."""
        assert self._process is None, "PostgreSQL runs already"
        self._process = spawn(
            [program("postgres"), "-D", str(self.data)],
            self.log_file,
            signal.SIGQUIT,
            cwd=self.folder,
            **unprivileged(),
        )
        wait_until(is_there or self.answers, "PostgreSQL is there", 30)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops the server; SIGQUIT is `pg_ctl stop -m immediate`."""
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(30)
        self._process = None

    def remove(self) -> None:
        """Stops the server for good and deletes its folder."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self, dbname: str = "postgres", autocommit: bool = True):
        """A superuser's direct connection, past every proxy."""
        conn = psycopg2.connect(
            host=str(self.folder), port=self.port, dbname=dbname, user=SUPERUSER[0],
            application_name="test observer", connect_timeout=10,
        )
        conn.autocommit = autocommit
        return conn

    def create_database(self, name: str, owner: str = APP[0]) -> None:
        # Copied as files: a third of the time that it takes through the write-ahead log.
        self._run_sql(f'CREATE DATABASE "{name}" OWNER {owner} STRATEGY file_copy')

    def drop_database(self, name: str) -> None:
        self._run_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _run_sql(self, sql: str) -> None:
        conn = self.connect()
        try:
            conn.cursor().execute(sql)
        finally:
            conn.close()

    def answers(self) -> bool:
        assert self._process and self._process.poll() is None, self.log_file.read_text()
        try:
            self.connect().close()
        except psycopg2.OperationalError:
            return False
        return True
