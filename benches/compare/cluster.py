"""A throwaway PostgreSQL cluster with pgbench's tables."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from process import Service, StartError, as_user, free_port

DATABASE = "bench"
USER = "app"  # whom the poolers log in as, with SCRAM
PASSWORD = "weir-bench"
TRUSTED = "trusted"  # whom clients without a pooler log in as: trust, as poolers trust theirs
LIMITED = "limited"  # the same, and it may have no more servers than a pool
POOL_SIZE = 20

SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
max_connections = {connections}
password_encryption = 'scram-sha-256'
fsync = off
shared_buffers = '256MB'
max_wal_size = '4GB'
checkpoint_timeout = '1h'
autovacuum = off        # it would land in one proxy's run and not in another's
ssl = on
ssl_cert_file = '{cert}'
ssl_key_file = '{key}'
"""

HBA = f"""
local all all trust
host all {TRUSTED},{LIMITED} 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""


def programs():
    """The folder of PostgreSQL's programs: `$PG_BIN`, or the newest of Debian's."""
    named = os.environ.get("PG_BIN")
    candidates = [Path(named)] if named else sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=_major, reverse=True)
    on_path = shutil.which("initdb")
    candidates += [Path(on_path).resolve().parent] if on_path and not named else []
    for folder in candidates:
        if all((folder / program).exists() for program in ("initdb", "postgres", "pgbench")):
            return folder
    raise StartError("PostgreSQL's initdb, postgres and pgbench were not found: "
                     "install `postgresql` (or run with --setup), or set PG_BIN to their folder")


def _major(folder):
    """15 of /usr/lib/postgresql/15/bin: text would put 9.6 before 15."""
    return float(re.sub(r"[^\d.]", "", folder.parent.name) or 0)


def environment(user, tls=False):
    """What libpq needs to log in as `user`."""
    return {**os.environ, "PGUSER": user, "PGPASSWORD": PASSWORD, "PGDATABASE": DATABASE,
            "PGSSLMODE": "require" if tls else "disable", "PGGSSENCMODE": "disable"}


class Cluster:
    """PostgreSQL with an `app` user and the `bench` database, reached over loopback TCP."""

    def __init__(self, folder, user, connections, certificate):
        self.bin = programs()
        self.folder = folder
        self.user = user
        self.connections = connections
        self.certificate = certificate
        self.data = folder / "data"
        self.service = None
        self.port = None
        #: What it keeps of the user's password, and poolers may: SCRAM without its dear first step.
        self.verifier = None

    def start(self, scale):
        """Makes the cluster, starts it and fills pgbench's tables at `scale`."""
        self._initdb()
        self.port = free_port()
        self._configure()
        self.service = Service(
            "postgres", [self.bin / "postgres", "-D", self.data], self.port, self.folder,
            user=self.user, stop_signal=signal.SIGINT)  # a fast shutdown
        self.service.start()
        self._wait_until_ready()
        self._create_users()
        self.verifier = self._sql(
            f"select rolpassword from pg_authid where rolname = '{USER}'").strip()
        self._fill(scale)

    def stop(self):
        if self.service is not None:
            self.service.stop()

    def version(self):
        out = subprocess.run([self.bin / "postgres", "--version"], capture_output=True, text=True)
        return out.stdout.strip()

    def _initdb(self):
        self._run([self.bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust",
                   "-E", "UTF8", "--locale=C", "--no-sync"])

    def _configure(self):
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(SETTINGS.format(
                port=self.port, folder=self.folder, connections=self.connections,
                cert=self.certificate.cert, key=self.certificate.key))
        (self.data / "pg_hba.conf").write_text(HBA)

    def _wait_until_ready(self, seconds_max=30):
        """It listens before it lets anybody in."""
        deadline = time.monotonic() + seconds_max
        ready = [self.bin / "pg_isready", "-q", "-h", self.folder, "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode != 0:
            if time.monotonic() > deadline:
                raise StartError(f"PostgreSQL lets nobody in after {seconds_max} s")
            time.sleep(0.05)

    def _create_users(self):
        for statement in (f"create role {USER} login password '{PASSWORD}'",
                          f"create role {TRUSTED} login in role {USER}",
                          f"create role {LIMITED} login in role {USER} connection limit {POOL_SIZE}",
                          f"create database {DATABASE} owner {USER}"):
            self._sql(statement)

    def _sql(self, statement):
        return self._run([self.bin / "psql", "-X", "-q", "-A", "-t", "-h", self.folder,
                          "-p", self.port, "-U", "postgres", "-d", "postgres", "-c", statement])

    def _fill(self, scale):
        self._run([self.bin / "pgbench", "-i", "-q", "-s", scale, "-h", "127.0.0.1",
                   "-p", self.port, DATABASE], env=environment(USER))

    def _run(self, argv, env=None):
        argv = [str(word) for word in argv]
        done = subprocess.run(argv, cwd=self.folder, env=env, capture_output=True, text=True,
                              **as_user(self.user))
        if done.returncode != 0:
            raise StartError(f"{Path(argv[0]).name} failed: {done.stderr.strip()}")
        return done.stdout
