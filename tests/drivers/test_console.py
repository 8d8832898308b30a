"""The console: PgBouncer's SHOW commands with its columns, for those who may."""

from __future__ import annotations

import psycopg
import psycopg2
import pytest

from support.postgres import APP
from support.proxy import ADMIN, STATS

pytestmark = pytest.mark.targets()

COLUMNS = {
    "VERSION": "version",
    "POOLS": "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req"
             " sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login"
             " maxwait maxwait_us pool_mode load_balance_hosts",
    "STATS": "database total_server_assignment_count total_xact_count total_query_count"
             " total_received total_sent total_xact_time total_query_time total_wait_time"
             " total_client_parse_count total_server_parse_count total_bind_count"
             " total_client_login_count avg_server_assignment_count avg_xact_count avg_query_count"
             " avg_recv avg_sent avg_xact_time avg_query_time avg_wait_time avg_client_parse_count"
             " avg_server_parse_count avg_bind_count avg_client_login_count",
    "DATABASES": "name host port database force_user pool_size min_pool_size reserve_pool_size"
                 " server_lifetime pool_mode load_balance_hosts max_connections"
                 " current_connections max_client_connections current_client_connections paused"
                 " disabled",
    "CLIENTS": "type user database replication state addr port local_addr local_port connect_time"
               " request_time wait wait_us close_needed ptr link remote_pid tls application_name"
               " prepared_statements id",
    "SERVERS": "type user database replication state addr port local_addr local_port connect_time"
               " request_time wait wait_us close_needed ptr link remote_pid tls application_name"
               " prepared_statements id",
    "CONFIG": "key value default changeable",
}


def console(proxy, user=STATS, database="pgweir"):
    return proxy.connect(autocommit=True, dbname=database, user=user[0], password=user[1])


@pytest.mark.parametrize("database", ["pgweir", "pgbouncer"])
@pytest.mark.parametrize("user", [ADMIN, STATS], ids=["admin", "stats user"])
@pytest.mark.parametrize("what", COLUMNS)
def test_show_has_pgbouncers_columns(proxy, what, user, database):
    cursor = console(proxy, user, database).cursor()

    cursor.execute(f"SHOW {what};")

    assert [column.name for column in cursor.description] == COLUMNS[what].split()
    assert cursor.statusmessage == "SHOW"


@pytest.mark.parametrize("what", COLUMNS)
def test_show_answers_in_the_extended_protocol_too(proxy, what):
    params = proxy.params(dbname="pgweir", user=STATS[0], password=STATS[1])
    with psycopg.connect(**params, autocommit=True) as conn:
        cursor = conn.execute(f"show {what.lower()}", prepare=True)

        assert [column.name for column in cursor.description] == COLUMNS[what].split()


def test_pools_count_clients_and_servers_by_state(start, database):
    proxy = start(pool={"size": 1, "max_overflow": 0})
    busy, idle = proxy.connect(), proxy.connect()
    busy.cursor().execute("SELECT 1")

    pool = proxy.show("POOLS")[0]

    assert pool["database"] == "main" and pool["user"] == "app"
    assert (pool["sv_active"], pool["sv_idle"], pool["cl_waiting"]) == (1, 0, 0)
    assert pool["pool_mode"] == "transaction"
    assert not idle.closed


def test_clients_are_mapped_to_the_servers_process_ids(proxy):
    conn = proxy.connect(application_name="mapped")
    cursor = conn.cursor()
    cursor.execute("SELECT pg_backend_pid()")
    pid = cursor.fetchone()[0]

    client = next(row for row in proxy.show("CLIENTS") if row["application_name"] == "mapped")
    server = next(row for row in proxy.show("SERVERS") if row["remote_pid"] == pid)

    assert (client["type"], client["state"], server["type"], server["state"]) == (
        "C", "active", "S", "active",
    )
    assert client["link"] == server["ptr"] and client["remote_pid"] == pid


def test_stats_count_queries_and_transactions(proxy):
    conn = proxy.connect()
    for _ in range(3):
        conn.cursor().execute("SELECT 1")
    conn.commit()

    stats = next(row for row in proxy.show("STATS") if row["database"] == "main")

    # BEGIN, three SELECTs and COMMIT.
    assert (stats["total_query_count"], stats["total_xact_count"]) == (5, 1)


def test_config_and_databases_show_no_secret(proxy):
    for what in ("CONFIG", "DATABASES"):
        assert APP[1] not in str(proxy.show(what, ADMIN))


def test_a_user_of_the_databases_may_not_enter_the_console(proxy):
    with pytest.raises(psycopg2.OperationalError):
        console(proxy, APP)


def test_nonsense_is_an_error_and_the_console_goes_on(proxy):
    cursor = console(proxy).cursor()

    for nonsense in ("SELECT * FROM pg_class", "SHOW NONSENSE", "DROP TABLE t", "SHOW"):
        with pytest.raises(psycopg2.Error):
            cursor.execute(nonsense)

    cursor.execute("SHOW VERSION")
    assert "pgweir" in cursor.fetchone()[0].lower()
