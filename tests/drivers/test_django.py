"""Django through a pool in transaction mode: a project of its own, run as a site runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.targets("direct"), pytest.mark.each_pool]

DRIVERS = ["psycopg2", "psycopg"]
MIGRATE = "migrates_forward_back_and_forward"
EVERYDAY = [
    "stores_finds_changes_and_deletes",
    "carries_each_kind_of_column",
    "commits_and_rolls_back_as_its_blocks_say",
    "goes_on_after_errors",
    "inserts_and_updates_in_bulk",
    "locks_rows_so_that_no_update_is_lost",
    "iterates_in_a_block",
    "copies_rows_in_and_out",
    "copies_rows_in_binary",
    "goes_on_after_a_copy_that_fails",
    "cancels_a_statement_from_another_thread",
]


def site(proxy, driver: str, *checks: str, **settings) -> None:
    """Runs checks of the project after its migrations."""
    params = proxy.params()
    database = {
        "HOST": params["host"], "PORT": params["port"], "NAME": params["dbname"],
        "USER": params["user"], "PASSWORD": params["password"], **settings,
    }
    env = {
        **os.environ, "DJANGO_SHOP": json.dumps(database),
        "DJANGO_SETTINGS_MODULE": "django_shop.settings", "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "django_shop.checks", driver, MIGRATE, *checks],
        env=env, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == [word for c in (MIGRATE, *checks) for word in ("ok", c)]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_site_with_djangos_defaults_works(proxy, driver):
    site(proxy, driver, *EVERYDAY)


@pytest.mark.parametrize("driver", DRIVERS)
def test_iterators_outside_a_block_work_without_server_side_cursors(proxy, driver):
    site(
        proxy, driver, "iterates_in_a_block", "iterates_without_a_block",
        DISABLE_SERVER_SIDE_CURSORS=True,
    )


def test_results_in_binary_are_those_in_text(proxy):
    # Cursors that put parameters into the text themselves have no binary results.
    site(proxy, "psycopg", "reads_results_in_binary", OPTIONS={"server_side_binding": True})


@pytest.mark.targets()
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_side_cursor_outside_a_block_is_34000_and_the_site_goes_on(proxy, driver):
    site(proxy, driver, "is_told_that_its_cursor_is_gone_without_a_block")


@pytest.mark.parametrize("driver", DRIVERS)
def test_iterators_outside_a_block_work_in_session_mode(start, driver):
    proxy = start(pool={"pool_mode": "session", "size": 2})
    site(proxy, driver, "iterates_in_a_block", "iterates_without_a_block")


@pytest.mark.parametrize("driver", DRIVERS)
def test_connections_that_are_kept_and_checked_serve_every_thread(proxy, driver):
    site(
        proxy, driver, "serves_requests_in_threads_that_keep_their_connections",
        CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True,
    )


@pytest.mark.parametrize("driver", DRIVERS)
def test_time_zone_and_isolation_of_the_settings_hold(proxy, driver):
    if driver == "psycopg":
        from psycopg import IsolationLevel
        serializable = IsolationLevel.SERIALIZABLE.value
    else:
        from psycopg2.extensions import ISOLATION_LEVEL_SERIALIZABLE as serializable
    site(proxy, driver, "has_the_time_zone_of_its_settings", TIME_ZONE="Asia/Tokyo")
    site(
        proxy, driver, "is_serializable_in_each_transaction",
        OPTIONS={"isolation_level": serializable},
    )


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_role_asked_for_at_startup_holds_on_every_server(proxy, postgres, driver):
    with postgres.connect(proxy.database).cursor() as cursor:
        cursor.execute("GRANT ALL ON SCHEMA public TO other_role")
    site(
        proxy, driver, "has_the_role_it_asked_for_at_startup",
        OPTIONS={"options": "-c role=other_role"},
    )


@pytest.mark.targets()
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_role_assumed_on_the_connection_lasts_for_one_transaction(proxy, driver):
    site(proxy, driver, "has_lost_the_role_that_it_assumed", OPTIONS={"assume_role": "other_role"})


def test_prepared_statements_and_parameters_bound_by_the_server_work(proxy):
    site(
        proxy, "psycopg", *EVERYDAY,
        OPTIONS={"server_side_binding": True, "prepare_threshold": 0},
    )


def test_the_pool_inside_django_works_on_top_of_ours(proxy):
    site(
        proxy, "psycopg", *EVERYDAY, "serves_requests_in_threads_that_keep_their_connections",
        OPTIONS={"pool": {"min_size": 1, "max_size": 6, "timeout": 30}},
    )
