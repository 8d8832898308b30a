"""Child processes: started as an ordinary user, ended by the pid they were started with."""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path


class StartError(Exception):
    """A program could not be started, with what it said."""


def ordinary_user():
    """Name of the user that servers run as when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def as_user(user):
    """Arguments that make `subprocess` drop from root to `user`."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def temporary_folder(user):
    """A new folder that belongs to `user`. Short, because Unix socket paths are."""
    folder = Path(tempfile.mkdtemp(prefix="pgweir-cmp-"))
    if user is not None:
        shutil.chown(folder, user)
    return folder


def free_port():
    """A free TCP port below the ephemeral range, where `pgbench -C` could take it from us."""
    for _ in range(200):
        port = random.randrange(20000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise StartError("no free TCP port between 20000 and 30000")


def tail(path, lines=4):
    """The last lines of a log, on one line."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return " | ".join(text.strip().splitlines()[-lines:]) or "no output"


class Service:
    """One server process that listens on a TCP port, from start to stop."""

    def __init__(self, name, argv, port, folder, user=None, stop_signal=signal.SIGTERM):
        self.name = name
        self.argv = [str(word) for word in argv]
        self.port = port
        self.folder = folder
        self.user = user
        self.stop_signal = stop_signal
        self.log = folder / f"{name}.log"
        self.child = None

    @property
    def pid(self):
        return self.child.pid

    def start(self, seconds_max=30):
        """Starts it and waits until its port answers.

        Raises StartError with the tail of its log.
        """
        with open(self.log, "wb") as log:
            # A session of its own: Ctrl-C reaches us alone, and we end things in order.
            self.child = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, start_new_session=True, **as_user(self.user))
        try:
            self._wait_for_port(seconds_max)
        except BaseException:
            self.stop()
            raise

    def _wait_for_port(self, seconds_max):
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            status = self.child.poll()
            if status is not None:
                raise StartError(f"{self.name} ended with status {status}: {tail(self.log)}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise StartError(f"{self.name} did not listen in {seconds_max} s: {tail(self.log)}")

    def stop(self, seconds_max=15):
        """Asks it to end, and kills it if it does not."""
        if self.child is None or self.child.poll() is not None:
            return
        self.child.send_signal(self.stop_signal)
        try:
            self.child.wait(seconds_max)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
