"""The table of `docs/DRIVERS.md` names the versions that are tested."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from support.versions import documented

PYTHON = documented("make test")


def test_the_python_drivers_are_in_the_table():
    assert {"psycopg2-binary", "psycopg", "asyncpg", "SQLAlchemy", "Django"} <= PYTHON.keys()


@pytest.mark.parametrize("package", PYTHON)
def test_the_table_names_the_version_that_is_installed(package):
    assert PYTHON[package] == version(package)
