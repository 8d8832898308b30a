"""What is drawn: which scenarios stand in which picture, under which words. How it is drawn is in `plots`."""

#: Panels of bars, of CPU per transaction: scenarios of one size, the unit, and how many µs it has.
CPU_PANELS = (
    (("a", "b", "c", "d", "e", "f"), "µs", 1),
    (("block", "i"), "µs", 1),
    (("g", "scram"), "µs", 1),
    (("h",), "ms", 1000),
)

#: What a bar stands for, in few words.
SHORT = {
    "a": "select\nsimple\nc=8",
    "b": "select\nprepared\nc=8",
    "c": "select\nextended\nc=8",
    "d": "select\nprepared\nc=64",
    "e": "select\nprepared\nc=250",
    "f": "select 1\nsimple\nc=32",
    "g": "connect\nper tx\nc=8",
    "h": "100k\nrows\nc=2",
    "i": "TPC-B\nsimple\nc=16",
    "block": "BEGIN …\nCOMMIT\nc=16",
    "scram": "connect,\nSCRAM\nc=8",
}

#: Latencies: a row for each server, a column for each figure, a point for each share of the rate.
SERVERS = {"postgres": "PostgreSQL", "null": "null server"}
LATENCIES = {"p50_us": "median", "p99_us": "99 %", "p999_us": "99.9 %"}
SHARES = (30, 50, 70, 85)
RATE = "rate-{}-{}"

#: What there may be more of, how much of it, and the scenario of each size.
GROWTH = {
    "clients": ((8, 64, 512, 2000, 10000), "null-{}x20"),
    "pools": ((1, 20, 200), "scale-pools-{}"),
    "statement texts": ((10, 100, 1000, 10000), "scale-texts-{}"),
    "workers": ((1, 2, 4, 8), "scale-workers-{}"),
}

#: Memory per client: figures of the scenario of that name.
MEMORY = {"idle_kb": "logged in", "queried_kb": "after one query each"}


def keys():
    """Every scenario that is in a picture."""
    return {*(key for panel, _unit, _divisor in CPU_PANELS for key in panel),
            *(RATE.format(server, share) for server in SERVERS for share in SHARES),
            *(key.format(size) for sizes, key in GROWTH.values() for size in sizes),
            "memory"}
