"""The figures that pgweir is held to, as the design's performance page gives them.

Source: "Performance: where the field stands, and what pgweir has to reach"; one machine of
2 cores, PostgreSQL 15, medians of 3 rounds of 8 s.
"""

#: CPU per transaction: µs, h in ms. haproxy opens a new server connection for each client in g.
CPU = {
    "haproxy": {"a": 18.9, "b": 17.3, "c": 19.9, "d": 17.0, "e": 20.5, "f": 15.6, "g": 210.0,
                "h": 7.1, "i": 125.0},
    "pgbouncer": {"a": 18.1, "b": 22.2, "c": 19.6, "d": 25.3, "e": 25.6, "f": 16.3, "g": 78.0,
                  "h": 23.1, "i": 126.0},
}

#: The goals for pgweir, as ratios to haproxy's CPU in the same run. g's is absolute: 75 µs.
GOAL = {"a": 0.95, "b": 1.05, "c": 0.97, "d": 1.05, "e": 1.05, "f": 1.03, "g": None, "h": 1.10,
        "i": 0.99}
GOAL_CONNECT_US = 75.0

#: Throughput relative to a direct connection in the same run: the least that is asked.
GOAL_THROUGHPUT = {"a": 0.70, "b": 0.64, "c": 0.70, "d": 0.90, "e": 1.05, "f": 0.86, "g": 15.5,
                   "h": 0.95, "i": 0.77}

#: How far above PgBouncer's ratio the first version may be.
SLACK = 1.25

#: Resident memory: figure, title, what the first version may need, and the goal.
MEMORY = (
    ("base_mb", "without clients, MB", None, 15.0),
    ("idle_kb", "per client that has logged in, KB", 6.0, 2.8),
    ("queried_kb", "per client that has asked once, KB", 6.0, 2.8),
)


#: How far the slowest 1 % may be from the median where clients wait for a pool.
GOAL_TAIL = 1.2

#: 99 % of the latency at a rate of 70 % of what haproxy bears, as a ratio to haproxy's.
GOAL_P99 = 1.15


def pgbouncer_ratio(key):
    """PgBouncer's CPU per transaction as a ratio to haproxy's."""
    return CPU["pgbouncer"][key] / CPU["haproxy"][key]


def bound(key):
    """The highest ratio to haproxy that passes."""
    return SLACK * pgbouncer_ratio(key)
