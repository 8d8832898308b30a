"""Installs what is compared against, with Debian's package manager, and what draws; starts no service."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from cluster import programs
from process import StartError

POLICY = Path("/usr/sbin/policy-rc.d")
ROOT = Path(__file__).resolve().parents[2]
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


def python_that_draws():
    """A Python that has what `requirements.txt` says, in an environment of its own."""
    wanted, folder = Path(__file__).with_name("requirements.txt"), ROOT / "target/plots"
    python, installed = folder / "bin/python", folder / "installed.txt"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                        "--requirement", wanted], check=True)
        shutil.copy(wanted, installed)
    return python


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
