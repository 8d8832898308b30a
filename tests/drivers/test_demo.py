"""The demo's ends: whatever stops it, no process, no folder and no shared memory is left."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from support.postgres import program
from support.process import temporary_folder
from support.proxy import binary
from support.wait import wait_until
from test_cli import processes_naming

pytestmark = [pytest.mark.targets(), pytest.mark.timeout(90)]


@pytest.fixture
def folder():
    """Where the demo puts its folder. Empty again when a test is over, or the test fails."""
    folder = temporary_folder("demo")
    folder.chmod(0o777)
    yield folder
    left = [path.name for path in folder.iterdir()], processes_naming(folder)
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    assert left == ([], [])


@pytest.fixture
def demo(folder):
    """A demo on free ports that has just been started, its output in a pipe."""
    process = subprocess.Popen(
        [binary(), "demo", "--port", "0", "--http-port", "0"], text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder), "PG_BIN": str(Path(program("postgres")).parent)},
    )
    yield process
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=30)


def read_until(demo, part: str) -> str:
    """What the demo says up to the first line with `part` in it."""
    said = ""
    for line in demo.stdout:
        said += line
        if part in line:
            return said
    raise AssertionError(f"the demo ended without {part!r}:\n{said}{demo.stderr.read()}")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda s: s.name)
def test_a_signal_ends_the_run_with_a_summary(demo, how):
    read_until(demo, " 1s |")

    demo.send_signal(how)
    said, errors = demo.communicate(timeout=30)

    assert demo.returncode == 0, errors
    assert "Errors told to clients: none" in said and not errors
    assert said.endswith("Everything is stopped and removed.\n")


def test_a_signal_while_initdb_works_ends_the_demo_and_leaves_no_shared_memory(demo, folder):
    before = shared_memory()
    read_until(demo, "Starting")
    wait_until(lambda: list(folder.glob("*/data/global/pg_control")), "initdb runs postgres", 20)

    demo.send_signal(signal.SIGINT)
    _, errors = demo.communicate(timeout=30)

    assert demo.returncode == 1
    assert "stopped before it was ready" in errors
    wait_until(lambda: shared_memory() <= before, "no segment is left")


def test_a_reader_that_goes_away_ends_the_demo_quietly(demo):
    read_until(demo, " 1s |")

    demo.stdout.close()

    assert demo.wait(timeout=30) == 0
    assert demo.stderr.read() == ""


def test_a_postgres_that_ends_is_reported(demo, folder):
    read_until(demo, " 1s |")
    status = next(folder.glob("*/data/postmaster.pid"))

    os.kill(int(status.read_text().split()[0]), signal.SIGINT)
    _, errors = demo.communicate(timeout=30)

    assert demo.returncode == 1
    assert "PostgreSQL is gone" in errors


def shared_memory() -> set[str]:
    """System V segments that nobody is attached to: what a killed `postgres` leaves behind."""
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[6] == "0"}
