"""The ways to reach the cluster: directly, and through each proxy that is compared."""

import re
import shutil
import subprocess
from pathlib import Path

from cluster import DATABASE, PASSWORD, TRUSTED, USER
from process import Service, StartError, free_port

POOL_SIZE = 20
CLIENTS_MAX = 5000

HAPROXY_CONFIG = """
global
    nbthread 1
    maxconn {clients_max}
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen postgresql
    bind 127.0.0.1:{port}
    server primary 127.0.0.1:{server_port}
"""

PGBOUNCER_CONFIG = """
[databases]
{database} = host=127.0.0.1 port={server_port} dbname={database} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users_file}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = {clients_max}
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
"""

PGWEIR_CONFIG = """
[listen]
addresses = ["127.0.0.1:{port}"]
max_clients = {clients_max}

[http]
address = "127.0.0.1:{http_port}"

[log]
level = "warn"

[runtime]
workers = {workers}

[auth]
method = "trust"
users_file = "{users_file}"

[pool]
pool_mode = "transaction"
size = {pool_size}
max_overflow = 0
{pool}

[domains.{database}]
hosts = ["127.0.0.1:{server_port}"]
user = "{user}"
password = "{password}"
{domain}
"""

#: What pgweir is set to besides, by the name that such a target has: unnamed statements that are not sent
#: again, planned as the server likes, for the values each time, or once for all values.
REUSING = {
    f"pgweir-reuse{name}": {"pool": "reuse_unnamed = true", "domain": domain}
    for name, domain in (
        ("", ""),
        ("-custom", 'server_options = { plan_cache_mode = "force_custom_plan" }'),
        ("-generic", 'server_options = { plan_cache_mode = "force_generic_plan" }'))}


class Direct:
    """PostgreSQL itself: what throughput is compared with."""

    name = "direct"
    family = "direct"
    client_user = TRUSTED

    def __init__(self, cluster):
        self.cluster = cluster
        self.service = cluster.service
        self.port = cluster.port

    def start(self):
        """It runs already."""

    def stop(self):
        """The cluster ends it."""

    def cannot(self, _scenario):
        return None

    def version(self):
        return self.cluster.version()


class Proxy:
    """A proxy process in front of the cluster. Subclasses say how it is configured."""

    family = ""
    #: Whom clients log in as, always without a password.
    client_user = USER
    #: How many clients memory.py may connect: the cluster has to bear their servers.
    memory_clients_max = CLIENTS_MAX

    def __init__(self, cluster, folder, user):
        self.cluster = cluster
        self.folder = folder
        self.user = user
        self.name = self.family
        self.port = None
        self.service = None

    def start(self):
        """Writes the configuration and starts the process; StartError if it does not serve."""
        self.port = free_port()
        self.service = self._service()
        self.service.start()

    def stop(self):
        if self.service is not None:
            self.service.stop()

    def cannot(self, _scenario):
        """Why this proxy cannot run the scenario, or None."""
        return None

    def version(self):
        raise NotImplementedError

    def _service(self):
        raise NotImplementedError

    def _write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        if self.user is not None:
            shutil.chown(path, self.user)
        return path

    def _users_file(self):
        return self._write(f"{self.name}-users.txt", f'"{USER}" "{PASSWORD}"\n')


class Haproxy(Proxy):
    """TCP forwarding by one thread: every client has a server connection of its own."""

    family = "haproxy"
    client_user = TRUSTED
    memory_clients_max = 300

    def _service(self):
        config = self._write("haproxy.cfg", HAPROXY_CONFIG.format(
            clients_max=CLIENTS_MAX, port=self.port, server_port=self.cluster.port))
        argv = [_program("haproxy"), "-db", "-f", config]
        return Service(self.name, argv, self.port, self.folder, user=self.user)

    def version(self):
        return _first_line([_program("haproxy"), "-v"])


class Pgbouncer(Proxy):
    """PgBouncer in transaction mode."""

    family = "pgbouncer"

    def cannot(self, scenario):
        if scenario.prepared and not self._knows_prepared_statements():
            return f"{self.version()} has no prepared statements in transaction mode"
        return None

    def _service(self):
        text = PGBOUNCER_CONFIG.format(
            database=DATABASE, server_port=self.cluster.port, user=USER, port=self.port,
            users_file=self._users_file(), pool_size=POOL_SIZE, clients_max=CLIENTS_MAX)
        if self._knows_prepared_statements():
            text += "max_prepared_statements = 200\n"
        config = self._write("pgbouncer.ini", text)
        argv = [_program("pgbouncer"), config]
        return Service(self.name, argv, self.port, self.folder, user=self.user)

    def version(self):
        return _first_line([_program("pgbouncer"), "--version"])

    def _knows_prepared_statements(self):
        """They came with 1.21, and by default with 1.24."""
        major, minor = re.search(r"(\d+)\.(\d+)", self.version()).groups()
        return (int(major), int(minor)) >= (1, 21)


class Pgweir(Proxy):
    """pgweir with a given number of workers."""

    family = "pgweir"

    def __init__(self, cluster, folder, binary, workers, family="pgweir", pool="", domain=""):
        # It runs as whoever started us: the binary may be in a folder closed to others.
        super().__init__(cluster, folder, user=None)
        self.binary = Path(binary).resolve()
        self.workers = workers
        self.pool = pool
        self.domain = domain
        self.family = family
        self.name = f"{family}-{workers}"

    def _service(self):
        config = self._write(f"{self.name}.toml", PGWEIR_CONFIG.format(
            port=self.port, clients_max=CLIENTS_MAX, http_port=free_port(), workers=self.workers,
            users_file=self._users_file(), pool_size=POOL_SIZE, database=DATABASE,
            server_port=self.cluster.port, user=USER, password=PASSWORD,
            pool=self.pool, domain=self.domain))
        argv = [self.binary, "serve", "--config", config]
        return Service(self.name, argv, self.port, self.folder)

    def version(self):
        return _first_line([self.binary, "--version"])


def _program(name):
    """The path of a daemon; Debian keeps daemons in /usr/sbin, off an ordinary user's PATH."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise StartError(f"{name} was not found: install it, or run with --setup")
    return path


def _first_line(argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown version ({error})"
    return (done.stdout or done.stderr).strip().split("\n")[0]
