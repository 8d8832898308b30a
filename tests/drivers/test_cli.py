"""The commands: what they print, and the exit codes that scripts rely on."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from support.postgres import program
from support.process import temporary_folder
from support.proxy import binary, write_users

pytestmark = pytest.mark.targets()

FINE, FAILED, USAGE, CONFIG = 0, 1, 64, 78


def run(*args: str, deadline: float = 20, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [binary(), *args], capture_output=True, text=True, timeout=deadline,
        stdin=subprocess.DEVNULL, env={**os.environ, **env},
    )


def write_config(folder: Path, text: str) -> str:
    write_users(folder / "users.txt", [("app", "secret of app")])
    path = folder / "pgweir.toml"
    path.write_text(text)
    return str(path)


GOOD = """\
[listen]
addresses = ["127.0.0.1:0"]
[http]
address = ""
[auth]
users_file = "users.txt"
[domains.main]
hosts = ["127.0.0.1:1"]
database = "main"
user = "app"
password = "${PGWEIR_TEST_PASSWORD:root}"
"""

BAD = """\
[listen]
adresses = ["127.0.0.1:6432"]
max_clients = "many"

[pool]
size = 0
timeout = "30"
pool_mode = "auto"

[auth]
users_file = "users.txt"

[domains.main]
hosts = ["127.0.0.1:5432"]
user = "app"
password = "${PGWEIR_TEST_UNSET}"
"""


def test_help_names_every_command():
    done = run("--help")

    assert done.returncode == FINE
    for command in ("serve", "check", "demo"):
        assert command in done.stdout


def test_version_prints_name_and_number():
    done = run("--version")

    assert done.returncode == FINE
    assert re.fullmatch(r"pgweir \d+\.\d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize(
    "args", [["nonsense"], ["serve"], ["serve", "--nonsense"], ["check"], ["demo", "--for", "x"]],
    ids=" ".join,
)
def test_wrong_arguments_end_with_64_and_say_what_is_wrong(args):
    done = run(*args)

    assert done.returncode == USAGE
    assert done.stderr.strip() and not done.stdout


def test_check_of_a_good_file_ends_with_0(tmp_path):
    assert run("check", "--config", write_config(tmp_path, GOOD)).returncode == FINE


def test_check_names_every_problem_with_its_line(tmp_path):
    done = run("check", "--config", write_config(tmp_path, BAD))

    said = done.stdout + done.stderr
    assert done.returncode in (FAILED, CONFIG)
    expected = [(2, "adresses"), (3, "max_clients"), (6, "size"), (7, "timeout"),
                (8, "pool_mode"), (16, "PGWEIR_TEST_UNSET")]
    for line, key in expected:
        about = [text for text in said.splitlines() if key in text]
        assert about, f"nothing about {key} in:\n{said}"
        assert any(re.search(rf"\b{line}\b", text) for text in about), f"{key}: {about}"
    assert "addresses" in said, "no did-you-mean"


def test_serve_refuses_a_bad_file_with_78_before_it_listens(tmp_path):
    done = run("serve", "--config", write_config(tmp_path, BAD))

    assert done.returncode == CONFIG
    assert "adresses" in done.stdout + done.stderr


def test_serve_without_its_file_ends_with_78(tmp_path):
    done = run("serve", "--config", str(tmp_path / "absent.toml"))

    assert done.returncode == CONFIG
    assert "absent.toml" in done.stderr + done.stdout


def test_serve_on_a_port_that_is_taken_ends_with_1_and_names_it(tmp_path, proxy):
    text = GOOD.replace("127.0.0.1:0", f"127.0.0.1:{proxy.port}")
    done = run("serve", "--config", write_config(tmp_path, text))

    assert done.returncode == FAILED
    assert str(proxy.port) in done.stdout + done.stderr


def test_no_message_shows_a_password(tmp_path):
    secret = "hunter2 of the environment"
    path = write_config(tmp_path, GOOD + "nonsense = 1\n")

    done = run("check", "--config", path, PGWEIR_TEST_PASSWORD=secret)

    assert done.returncode != FINE
    assert secret not in done.stdout + done.stderr
    assert "secret of app" not in done.stdout + done.stderr


@pytest.mark.parametrize("key", [
    "strict = true",
])
def test_a_key_of_what_is_not_built_is_refused_by_name(tmp_path, key):
    done = run("check", "--config", write_config(tmp_path, GOOD + key + "\n"))

    assert done.returncode in (FAILED, CONFIG)
    assert key.split()[0] in done.stdout + done.stderr


@pytest.mark.timeout(120)
def test_the_demo_runs_says_how_to_connect_and_leaves_nothing_behind():
    folder = temporary_folder("demo")
    try:
        folder.chmod(0o777)
        done = run(
            "demo", "--for", "5s", deadline=90, TMPDIR=str(folder),
            PG_BIN=str(Path(program("postgres")).parent),
        )
        said = done.stdout + done.stderr

        assert done.returncode == FINE, said
        for domain in ("technical_analysis", "internals", "plurality"):
            assert domain in said
        assert "psql" in said and "/metrics" in said
        assert list(folder.iterdir()) == []
        assert processes_naming(folder) == []
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def processes_naming(folder: Path) -> list[str]:
    """Command lines of processes that mention the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found
