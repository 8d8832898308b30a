"""A primary and streaming replicas on one machine, each of which a test may break in its own way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg2

from support.postgres import Postgres, SUPERUSER, program
from support.process import unprivileged
from support.wait import free_port, wait_until

_REPLICATION_HBA = """\
local replication all trust
host  replication all 127.0.0.1/32 trust
"""

_SETTINGS = """\
wal_keep_size = 64MB
wal_receiver_timeout = 2s
wal_retrieve_retry_interval = 100ms
wal_receiver_status_interval = 1s
hot_standby = on
max_wal_senders = 10
"""


class Node(Postgres):
    """One server of a cluster."""

    def __init__(self, name: str, of: "Node | None" = None) -> None:
        self.name = name
        self._of = of
        super().__init__()

    def _initdb(self) -> None:
        if self._of is None:
            super()._initdb()
            with (self.data / "pg_hba.conf").open("a") as hba:
                hba.write(_REPLICATION_HBA)
            with (self.data / "postgresql.conf").open("a") as settings:
                settings.write(_SETTINGS)
        else:
            self.copy_from(self._of)

    def _run_sql(self, sql: str) -> None:
        # A replica has the roles of its primary.
        if self._of is None or "ALTER ROLE" not in sql:
            super()._run_sql(sql)

    def copy_from(self, primary: "Node") -> None:
        """Begins as a replica of `primary`, with what it has now. It must not run."""
        shutil.rmtree(self.data, ignore_errors=True)
        done = subprocess.run(
            [program("pg_basebackup"), "-D", str(self.data), "-X", "stream", "-c", "fast", "-R",
             "--no-sync", "-d", f"host={primary.folder} port={primary.port} user={SUPERUSER[0]} "
             f"application_name={self.name}"],
            cwd=self.folder, capture_output=True, text=True, timeout=60, **unprivileged(),
        )
        assert done.returncode == 0, f"pg_basebackup failed:\n{done.stdout}{done.stderr}"
        self.settings(port=self.port, unix_socket_directories=str(self.folder))
        self._of = primary

    def settings(self, **settings: object) -> None:
        """Adds lines to its postgresql.conf; later ones count."""
        with (self.data / "postgresql.conf").open("a") as lines:
            lines.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def follow(self, primary: "Node") -> None:
        """Goes on as a replica of another primary. It must not run, or be reloaded."""
        # pg_basebackup has put it there, which goes before postgresql.conf.
        with (self.data / "postgresql.auto.conf").open("a") as lines:
            lines.write(f"primary_conninfo = 'host={primary.folder} port={primary.port} "
                        f"user={SUPERUSER[0]} application_name={self.name}'\n")
        (self.data / "standby.signal").touch()
        if os.geteuid() == 0:
            shutil.chown(self.data / "standby.signal", "postgres", "postgres")
        self._of = primary

    def start_without_readers(self) -> None:
        """Starts as a replica that replays, and refuses every connection."""
        self.settings(hot_standby="off")
        self.start(self._refuses)

    def _refuses(self) -> bool:
        try:
            self.connect().close()
        except psycopg2.OperationalError as error:
            return "not accepting connections" in str(error)
        return False

    @property
    def pid(self) -> int:
        assert self._process, f"{self.name} does not run"
        return self._process.pid

    def kill(self) -> None:
        """`kill -9` of the server and of everything that it has started. Returns when all are gone."""
        children = self._children()
        self._process.kill()
        for child in children:
            self._signal(child, signal.SIGKILL)
        self._process.wait(10)
        self._process = None
        wait_until(lambda: not any(map(_runs, children)), "its processes are gone")
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def kill_a_session(self, dbname: str) -> None:
        """`kill -9` of the process that serves one of the sessions in a database."""
        pid = self.ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
                       f"AND datname = '{dbname}' AND application_name <> 'pgweir probe' LIMIT 1")
        os.kill(pid, signal.SIGKILL)

    def crash(self, dbname: str) -> None:
        """Loses a session's process, ends all others for it, and recovers. Returns when the old ones are gone."""
        before = len(self.log_file.read_text())
        self.kill_a_session(dbname)
        wait_until(
            lambda: "all server processes terminated" in self.log_file.read_text()[before:],
            "its processes are gone",
        )

    def freeze(self) -> None:
        """SIGSTOP for all of its processes: it answers nothing, and breaks no connection."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, what: signal.Signals) -> None:
        for pid in [self.pid, *self._children()]:
            self._signal(pid, what)

    def _children(self) -> list[int]:
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, text=True
        )
        return [int(pid) for pid in children.stdout.split()]

    @staticmethod
    def _signal(pid: int, what: signal.Signals) -> None:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            pass

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self._process is not None and how == signal.SIGQUIT:
            self.thaw()
        super().stop(how)

    def ask(self, sql: str, dbname: str = "postgres"):
        """The first value of a superuser's query, past every proxy."""
        conn = self.connect(dbname)
        try:
            cursor = conn.cursor()
            cursor.execute(sql)
            return cursor.fetchone()[0] if cursor.description else None
        finally:
            conn.close()

    def is_in_recovery(self) -> bool:
        return self.ask("SELECT pg_is_in_recovery()")

    def promote(self) -> None:
        """Makes a primary of a replica, and returns when it is one."""
        assert self.ask("SELECT pg_promote(true, 30)")

    def reload(self) -> None:
        os.kill(self.pid, signal.SIGHUP)


class Cluster:
    """A primary and its replicas."""

    def __init__(self, replicas: int = 2) -> None:
        self.primary = Node("primary")
        self.replicas: list[Node] = []
        for number in range(1, replicas + 1):
            self.replicas.append(Node(f"replica{number}", self.primary))
        self.nodes = [self.primary, *self.replicas]
        self.caught_up()

    def hosts(self) -> list[str]:
        return [f"127.0.0.1:{node.port}" for node in self.nodes]

    def caught_up(self, primary: Node | None = None, replicas: list[Node] | None = None) -> None:
        """Waits until replicas have replayed what the primary has written."""
        written = (primary or self.primary).ask("SELECT pg_current_wal_lsn()")
        for node in replicas or self.replicas:
            wait_until(
                lambda: node.ask(f"SELECT pg_last_wal_replay_lsn() >= '{written}'"),
                f"{node.name} has caught up", 30,
            )

    def synchronous(self, on: bool = True) -> None:
        """Whether a commit waits for the first replica."""
        names = self.replicas[0].name if on else ""
        self.primary.settings(synchronous_standby_names=names)
        for node in self.replicas:
            node.settings(synchronous_standby_names="")
        self.primary.reload()
        if on:
            wait_until(
                lambda: self.primary.ask(
                    "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1,
                "the first replica is synchronous",
            )

    def remove(self) -> None:
        for node in self.nodes:
            node.remove()


def _runs(pid: int) -> bool:
    """True while a process has its sockets: it is neither gone, nor a zombie that nobody has reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def unused_host() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"
