"""The ways to reach a server: directly, and through each proxy that is compared."""

import re
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cluster import DATABASE, LIMITED, PASSWORD, POOL_SIZE, TRUSTED, USER
from process import Service, StartError, free_port

CLIENTS_MAX = 12000
#: Files of a process that are neither a client's nor a client's server's.
FILES_BESIDE = 300

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
{databases}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = {auth}
auth_file = {users_file}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = {clients_max}
client_tls_sslmode = {client_tls}
client_tls_cert_file = {cert}
client_tls_key_file = {key}
server_tls_sslmode = {server_tls}
log_connections = 0
log_disconnections = 0
"""

PGBOUNCER_DATABASE = "{name} = host=127.0.0.1 port={server_port} user={user} password={password}"

PGWEIR_CONFIG = """
[listen]
addresses = ["127.0.0.1:{port}"]
max_clients = {clients_max}
tls = {{ mode = "{client_tls}", cert = "{cert}", key = "{key}" }}

[http]
address = "127.0.0.1:{http_port}"

[log]
level = "warn"

[runtime]
workers = {workers}

[auth]
method = "{auth}"
users_file = "{users_file}"

[pool]
pool_mode = "transaction"
size = {pool_size}
max_overflow = 0
prepared_statements = {statements}
{pool}

{domains}
"""

PGWEIR_DOMAIN = """
[domains.{name}]
hosts = ["127.0.0.1:{server_port}"]
user = "{user}"
password = "{password}"
tls = {{ mode = "{server_tls}" }}
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


@dataclass(frozen=True)
class Setup:
    """How a target stands for a scenario: what is behind it, and how it is configured."""

    #: `postgres` or `null`.
    server: str = "postgres"
    pool_size: int = POOL_SIZE
    #: More than one: their names end in their number.
    databases: int = 1
    #: How clients log in: `trust` or `scram-sha-256`.
    auth: str = "trust"
    tls_client: bool = False
    tls_server: bool = False
    #: Clients without a pooler may have no more servers than a pool has.
    limited: bool = False
    #: pgweir's worker threads, where they are what is compared.
    workers: int | None = None
    #: Prepared statements that each server keeps.
    statements: int = 200

    def names(self):
        if self.databases == 1:
            return [DATABASE]
        return [f"{DATABASE}{number}" for number in range(self.databases)]

    def words(self):
        """What configurations say of it."""
        return {"auth": self.auth, "pool_size": self.pool_size, "statements": self.statements,
                "client_tls": _tls_mode(self.tls_client), "server_tls": _tls_mode(self.tls_server)}


def _tls_mode(wanted):
    return "require" if wanted else "disable"


@dataclass(frozen=True)
class Surroundings:
    """What targets are started in."""

    cluster: object
    #: Servers by the name that a Setup has for them.
    servers: dict
    certificate: object
    folder: Path
    #: Whom a program that needs no more runs as.
    user: str | None


class Target:
    """A way to reach a server. Subclasses say how it is configured."""

    family = ""
    #: Each client has a server connection of its own, and logs in there.
    forwards = False

    def __init__(self, around):
        self.around = around
        self.name = self.family
        self.port = None
        self.service = None

    @property
    def pid(self):
        """The process whose cost is measured; None if there is no such."""
        return self.service.pid if self.service else None

    def client(self, setup):
        """Whom clients log in as."""
        if not self.forwards or setup.auth != "trust":
            return USER
        return LIMITED if setup.limited else TRUSTED

    def start(self, setup):
        """Writes the configuration and starts the process; StartError if it does not serve."""
        self.port = free_port()
        self.service = self._service(setup, self.around.servers[setup.server].port)
        self.service.start()

    def stop(self):
        if self.service is not None:
            self.service.stop()

    def cannot(self, scenario):
        """Why this target cannot run the scenario, or None."""
        files = scenario.load.connections * (2 if self.forwards else 1) + FILES_BESIDE
        if files > open_files():
            return (f"{self.family} with {scenario.load.connections} clients needs {files} open files; "
                    f"{open_files()} are allowed here")
        return self._cannot(scenario)

    def _cannot(self, _scenario):
        return None

    def version(self):
        raise NotImplementedError

    def _service(self, setup, server_port):
        raise NotImplementedError

    def _write(self, name, text):
        path = self.around.folder / name
        path.write_text(text)
        if self.around.user is not None:
            shutil.chown(path, self.around.user)
        return path

    def _users_file(self):
        return self._write(f"{self.name}-users.txt", f'"{USER}" "{self.around.cluster.verifier}"\n')


class Direct(Target):
    """The server itself: what throughput is compared with."""

    name = family = "direct"
    forwards = True

    def start(self, setup):
        self.port = self.around.servers[setup.server].port

    def _cannot(self, scenario):
        return _one_sided(scenario.setup) or _without_pool(scenario.setup)

    def version(self):
        return self.around.cluster.version()


class Haproxy(Target):
    """TCP forwarding by one thread: every client has a server connection of its own."""

    family = "haproxy"
    forwards = True

    def _service(self, _setup, server_port):
        config = self._write("haproxy.cfg", HAPROXY_CONFIG.format(
            clients_max=min(CLIENTS_MAX, (open_files() - FILES_BESIDE) // 2), port=self.port,
            server_port=server_port))
        argv = [_program("haproxy"), "-db", "-f", config]
        return Service(self.name, argv, self.port, self.around.folder, user=self.around.user)

    def _cannot(self, scenario):
        return _one_sided(scenario.setup) or _without_pool(scenario.setup)

    def version(self):
        return _first_line([_program("haproxy"), "-v"])


def _one_sided(setup):
    if setup.tls_client != setup.tls_server:
        return ("haproxy forwards TCP: TLS goes through it, from the client to PostgreSQL, as in a direct "
                "connection. Compare the row of both sides")
    return None


def _without_pool(setup):
    if setup.pool_size != POOL_SIZE:
        return "haproxy has no pool: each client has a server connection of its own"
    return None


class Pgbouncer(Target):
    """PgBouncer in transaction mode."""

    family = "pgbouncer"

    def _cannot(self, scenario):
        if scenario.prepared and not self._knows_prepared_statements():
            return f"{self.version()} has no prepared statements in transaction mode"
        return None

    def _service(self, setup, server_port):
        databases = "\n".join(PGBOUNCER_DATABASE.format(
            name=name, server_port=server_port, user=USER, password=PASSWORD)
            for name in setup.names())
        text = PGBOUNCER_CONFIG.format(
            databases=databases, port=self.port, users_file=self._users_file(),
            clients_max=CLIENTS_MAX, cert=self.around.certificate.cert,
            key=self.around.certificate.key, **setup.words())
        if self._knows_prepared_statements():
            text += f"max_prepared_statements = {setup.statements}\n"
        config = self._write("pgbouncer.ini", text)
        argv = [_program("pgbouncer"), config]
        return Service(self.name, argv, self.port, self.around.folder, user=self.around.user)

    def version(self):
        return _first_line([_program("pgbouncer"), "--version"])

    def _knows_prepared_statements(self):
        """They came with 1.21, and by default with 1.24."""
        major, minor = re.search(r"(\d+)\.(\d+)", self.version()).groups()
        return (int(major), int(minor)) >= (1, 21)


class Pgweir(Target):
    """pgweir with a given number of workers."""

    family = "pgweir"

    def __init__(self, around, binary, workers, family="pgweir", pool="", domain=""):
        super().__init__(around)
        self.binary = Path(binary).resolve()
        self.workers = workers
        self.pool = pool
        self.domain = domain
        self.family = family
        self.name = f"{family}-{workers}"

    def _service(self, setup, server_port):
        words = setup.words()
        domains = "".join(PGWEIR_DOMAIN.format(
            name=name, server_port=server_port, user=USER, password=PASSWORD, domain=self.domain, **words)
            for name in setup.names())
        config = self._write(f"{self.name}.toml", PGWEIR_CONFIG.format(
            port=self.port, clients_max=CLIENTS_MAX, http_port=free_port(),
            workers=setup.workers or self.workers, users_file=self._users_file(),
            domains=domains, pool=self.pool, cert=self.around.certificate.cert, key=self.around.certificate.key,
            **words))
        argv = [self.binary, "serve", "--config", config]
        # As whoever started us: the binary may be in a folder closed to others.
        return Service(self.name, argv, self.port, self.around.folder)

    def version(self):
        return _first_line([self.binary, "--version"])


def open_files():
    """How many files a process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


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
