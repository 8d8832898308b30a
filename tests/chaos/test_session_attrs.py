"""libpq's target_session_attrs: it asks what a connection is, and is told what is true of the session."""

from __future__ import annotations

import psycopg
import psycopg2
import pytest

from support.wait import wait_until
from views import address, known, port_of, roles

# Sessions of each kind, and which of libpq's wishes they fulfil.
FULFILLED = {
    "ledger": {"any", "read-write", "primary", "prefer-standby"},
    "ledger_ro": {"any", "read-only", "standby", "prefer-standby"},
}
WISHES = ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]


@pytest.mark.parametrize("wish", WISHES)
def test_each_wish_is_answered_truly(cluster, start, wish):
    proxy = start()
    known(proxy, cluster)
    for dbname, fulfilled in FULFILLED.items():
        for driver in (psycopg2, psycopg):
            params = proxy.params(dbname=dbname, target_session_attrs=wish)
            if wish in fulfilled:
                conn = driver.connect(**params)
                is_primary = port_of(conn) == cluster.primary.port
                assert is_primary == (dbname == "ledger")
                conn.close()
            else:
                with pytest.raises(driver.OperationalError, match="session is|server is|hot standby"):
                    driver.connect(**params)


def test_a_list_of_hosts_leads_to_the_session_that_is_wished_for(cluster, start):
    """As in a connection string: two proxies, one of which has nothing but a replica."""
    first = start(hosts=[f"127.0.0.1:{cluster.replicas[0].port}"])
    second = start()
    known(second, cluster)
    ask = lambda wish: psycopg2.connect(**{  # noqa: E731
        **second.params(), "host": f"{first.host},{second.host}", "port": f"{first.port},{second.port}",
        "target_session_attrs": wish,
    })

    assert port_of(ask("any")) == cluster.replicas[0].port
    assert port_of(ask("read-write")) == cluster.primary.port
    assert port_of(ask("primary")) == cluster.primary.port
    assert port_of(ask("standby")) == cluster.replicas[0].port


@pytest.mark.timeout(60)
def test_it_stays_true_after_a_promotion(cluster, start):
    proxy = start()
    known(proxy, cluster)
    cluster.primary.kill()
    cluster.replicas[0].promote()
    promoted = f"127.0.0.1:{cluster.replicas[0].port}"
    wait_until(lambda: roles(proxy)[promoted][0] == "primary", "it is found")

    conn = psycopg2.connect(**proxy.params(target_session_attrs="read-write"))
    assert port_of(conn) == cluster.replicas[0].port
    with pytest.raises(psycopg2.OperationalError, match="server is not in hot standby mode"):
        psycopg2.connect(**proxy.params(target_session_attrs="standby"))


def test_a_reader_on_the_primary_is_told_that_it_is_there(cluster, start):
    """Without a replica the primary serves: that it does not write is true, that it is a standby is not."""
    proxy = start(hosts=[f"127.0.0.1:{cluster.primary.port}"])
    ask = lambda wish: psycopg2.connect(**proxy.params(dbname="ledger_ro", target_session_attrs=wish))  # noqa: E731

    for wish in ("any", "read-only", "primary", "prefer-standby"):
        ask(wish).close()
    for wish in ("read-write", "standby"):
        with pytest.raises(psycopg2.OperationalError):
            ask(wish)


def fulfils(proxy, wish: str, **params) -> bool:
    try:
        psycopg2.connect(**proxy.params(target_session_attrs=wish, **params)).close()
    except psycopg2.OperationalError:
        return False
    return True


def test_it_is_true_again_when_the_primary_is_back(cluster, start):
    """Replicas have served meanwhile: who wishes to write hangs up before a server is opened for it."""
    proxy = start(failover={"on_primary_loss": "read_only"})
    known(proxy, cluster)
    cluster.primary.kill()
    wait_until(lambda: roles(proxy)[address(cluster.primary)][1] == "down", "it is seen to be down")
    port_of(proxy.connect(autocommit=True))
    assert fulfils(proxy, "read-only") and not fulfils(proxy, "read-write")

    cluster.primary.start()
    wait_until(lambda: roles(proxy)[address(cluster.primary)][0] == "primary", "it is found")

    for wish in ("read-write", "primary"):
        wait_until(lambda: fulfils(proxy, wish), f"{wish} is fulfilled")


def test_it_is_true_again_when_replicas_are_back(cluster, start):
    proxy = start()
    known(proxy, cluster)
    for node in cluster.replicas:
        node.kill()
    wait_until(lambda: {roles(proxy)[address(node)][1] for node in cluster.replicas} == {"down"}, "they are gone")
    assert port_of(proxy.connect(dbname="ledger_ro")) == cluster.primary.port
    assert not fulfils(proxy, "standby", dbname="ledger_ro")

    for node in cluster.replicas:
        node.start()
    known(proxy, cluster)

    wait_until(lambda: fulfils(proxy, "standby", dbname="ledger_ro"), "standby is fulfilled")


def test_it_is_true_again_when_the_primary_takes_writes(cluster, start):
    """As where a disk is full for a while: servers of that time are still there."""
    proxy = start()
    known(proxy, cluster)
    cluster.primary.ask("ALTER SYSTEM SET default_transaction_read_only = on")
    cluster.primary.reload()
    wait_until(lambda: cluster.primary.ask("SHOW default_transaction_read_only") == "on", "it takes none")
    port_of(proxy.connect(autocommit=True))
    assert not fulfils(proxy, "read-write")

    cluster.primary.ask("ALTER SYSTEM RESET default_transaction_read_only")
    cluster.primary.reload()

    wait_until(lambda: fulfils(proxy, "read-write"), "read-write is fulfilled")
