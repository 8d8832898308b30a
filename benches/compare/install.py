"""Installs what is compared against, with Debian's package manager, and starts no service."""

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from cluster import programs
from process import StartError

POLICY = Path("/usr/sbin/policy-rc.d")
DAEMON_PATH = "/usr/sbin:/usr/local/sbin"


def missing_packages():
    """Debian packages whose programs are not here."""
    missing = [name for name in ("pgbouncer", "haproxy")
               if not shutil.which(name) and not shutil.which(name, path=DAEMON_PATH)]
    try:
        programs()
    except StartError:
        missing.append("postgresql")
    return missing


def install(packages):
    """Installs `packages`; StartError says what to type where that is not ours to do."""
    if not packages:
        return
    command = "apt-get install -y --no-install-recommends " + " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise StartError(f"not installed: {', '.join(packages)}. As root, run: {command}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        subprocess.run(["apt-get", "update", "-q"], check=True)
        subprocess.run(command.split(), check=True, env=environment)
    if shutil.which("systemctl"):
        # Nor after the next boot: the comparison starts its own, with its own configuration.
        subprocess.run(["systemctl", "disable", *packages], check=False)


@contextmanager
def _no_services():
    """Debian starts a daemon as it installs it, unless this file says no (exit status 101)."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
