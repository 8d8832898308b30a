"""The table of `docs/DRIVERS.md` names the versions of the other languages' drivers, too."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from support.versions import documented

HERE = Path(__file__).parent
TABLE = documented("make matrix")


def installed(package: str) -> str:
    """The version of a package of npm, of Debian, or of Cargo."""
    manifest = HERE / "node/node_modules" / package / "package.json"
    if manifest.exists():
        return json.loads(manifest.read_text())["version"]
    lock = HERE / "rust/Cargo.lock"
    if lock.exists() and (found := re.search(
        rf'^name = "{re.escape(package)}"\nversion = "(.+)"$', lock.read_text(), re.MULTILINE
    )):
        return found[1]
    asked = ["dpkg-query", "--show", "--showformat=${source:Upstream-Version}", package]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout


def test_the_programs_drivers_are_in_the_table():
    assert {"pg", "postgres", "libpostgresql-jdbc-java"} <= TABLE.keys()


@pytest.mark.parametrize("package", TABLE)
def test_the_table_names_the_version_that_is_installed(package):
    # Debian's may be mended within a series: 42.5 is 42.5.5 too.
    assert f"{installed(package)}.".startswith(f"{TABLE[package]}.")
