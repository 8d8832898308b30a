"""Bounded waiting: a test never sleeps, it waits until something is true."""

from __future__ import annotations

import socket
import time
from typing import Callable, TypeVar

T = TypeVar("T")

DEADLINE = 10.0
"""Seconds that a condition may take to come true unless the caller knows better."""


def wait_until(condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """Polls `condition` until it is truthy and returns that; fails with `what` in the end."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what} (last seen: {value!r})")
        time.sleep(0.02)


def accepts_tcp(port: int, host: str = "127.0.0.1") -> bool:
    """True once something listens on the port."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def free_port() -> int:
    """A port that was free a moment ago; the kernel does not hand it out again at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
