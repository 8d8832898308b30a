"""What a test sees of a proxy: its hosts, and who serves its clients."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from support.wait import wait_until


def roles(proxy) -> dict[str, tuple[str, str]]:
    """Role and state of each host."""
    return {row["host"]: (row["role"], row["state"]) for row in proxy.show("HOSTS")}


def address(node) -> str:
    """As pgweir names the host."""
    return f"127.0.0.1:{node.port}"


def known(proxy, cluster) -> None:
    """Waits until the roles of all hosts are known."""
    wait_until(
        lambda: [roles(proxy)[address(node)][0] for node in cluster.nodes]
        == ["primary", "replica", "replica"],
        "all roles are known",
    )


def port_of(conn) -> int:
    """The port of the server that serves the next statement of `conn`."""
    cursor = conn.cursor()
    cursor.execute("SELECT inet_server_port()")
    return cursor.fetchone()[0]


def ports_of(*conns) -> set[int]:
    """The ports of the servers that serve one transaction of each."""
    ports = set()
    for conn in conns:
        ports.add(port_of(conn))
        conn.rollback()
    return ports


def waiting(proxy) -> int:
    """How many clients wait for a server."""
    return sum(pool["clients_waiting"] for pool in proxy.status()["pools"])


def in_a_thread(call):
    """Runs `call` beside the test; what it returns or raises is its `result()`."""
    return ThreadPoolExecutor(1).submit(call)
