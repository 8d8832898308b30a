"""TLS in the configurations of pgweir and of PostgreSQL."""

from __future__ import annotations

import shutil

from .certificates import Certificates
from .postgres import Postgres
from .process import give_to_unprivileged


def offer(certificates: Certificates, mode: str, **more) -> dict:
    """`[listen] tls`, with the certificate of `localhost`."""
    return {"tls": {
        "mode": mode, "cert": certificates.path("localhost.crt"),
        "key": certificates.path("localhost.key"), **more,
    }}


def servers(cluster: Postgres, mode: str, **more) -> dict:
    """A domain whose server is reached through TLS by its name."""
    return {"main": {"hosts": [f"localhost:{cluster.port}"], "tls": {"mode": mode, **more}}}


def encrypt(cluster: Postgres, certificates: Certificates, cert: str, key: str) -> None:
    """Gives a cluster that is stopped a certificate."""
    shutil.copy(cert, cluster.data / "server.crt")
    shutil.copy(key, cluster.data / "server.key")
    shutil.copy(certificates.ca, cluster.data / "ca.crt")
    with (cluster.data / "postgresql.conf").open("a") as settings:
        settings.write("ssl = on\nssl_ca_file = 'ca.crt'\n")
    for name in ("server.crt", "server.key", "ca.crt"):
        (cluster.data / name).chmod(0o600)
        give_to_unprivileged(cluster.data / name)
