"""Child processes that cannot outlive the test run, and the user that servers run as."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import tempfile
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def unprivileged() -> dict:
    """Popen arguments for programs that refuse to run as root. Empty when we are not root."""
    if os.geteuid() != 0:
        return {}
    account = _unprivileged_account()
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def give_to_unprivileged(folder: Path) -> None:
    """Makes `folder` belong to the user of `unprivileged()`."""
    if os.geteuid() == 0:
        account = _unprivileged_account()
        os.chown(folder, account.pw_uid, account.pw_gid)


def _unprivileged_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("root needs a user `postgres` or `nobody` to run PostgreSQL as")


def spawn(argv: list[str], log: Path, last_words: signal.Signals, **how) -> subprocess.Popen:
    """Starts a child that writes to `log` and gets `last_words` if the test run dies."""

    def die_with_parent() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, last_words)

    with log.open("ab") as out:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
            **how,
        )


def temporary_folder(name: str, base: str | None = None) -> Path:
    """A folder that other users may pass through, with a path short enough for Unix sockets."""
    if base is None:
        base = tempfile.gettempdir() if len(tempfile.gettempdir()) <= 40 else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix=f"pgweir-{name}-", dir=base))
    folder.chmod(0o755)
    return folder


def resident_kib(pid: int) -> int:
    """VmRSS of a process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no VmRSS: it is gone")
