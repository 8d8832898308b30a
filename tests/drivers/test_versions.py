"""The table of `docs/DRIVERS.md` names the versions that are tested."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import version

import pytest

from support.postgres import program
from support.versions import documented

TABLE = documented("make test")
PYTHON = {package: version for package, version in TABLE.items() if package != "psql"}


def test_the_python_drivers_are_in_the_table():
    assert {"psycopg2-binary", "psycopg", "asyncpg", "SQLAlchemy", "Django"} <= PYTHON.keys()


@pytest.mark.parametrize("package", PYTHON)
def test_the_table_names_the_version_that_is_installed(package):
    assert PYTHON[package] == version(package)


def test_the_table_names_the_postgresql_whose_programs_are_run():
    said = subprocess.run([program("psql"), "--version"], capture_output=True, text=True).stdout
    assert re.search(r"\d+", said)[0] in TABLE["psql"].split(" and ")
