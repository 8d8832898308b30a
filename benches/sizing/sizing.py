"""A step of load before pools of every size, and before one that adapts → a table of both.

Sizes are run in rounds, each in another order, and so are the best of them and the adaptive pools behind that: what
drifts, drifts for all.
"""

import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches/compare"))

import tool  # noqa: E402
import certificates  # noqa: E402
from cluster import DATABASE, PASSWORD, USER, Cluster, environment  # noqa: E402
from process import (  # noqa: E402
    Service, StartError, as_user, free_port, ordinary_user, temporary_folder)

PROG = "benches/sizing/run"

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
MOST = 32
#: What an adaptive pool begins with: less than is best, and more.
STARTS = (2, 20)
CLIENTS = 64
#: Before the step.
CLIENTS_FEW = 2
FEW_SECONDS = 3
#: A size is as good as the best if it does this share of it.
AS_GOOD = 0.97

LOADS = {
    "cpu": "select sum(i) from generate_series(1, 3000) i;",
    "waits": "select pg_sleep(0.01);",
    # The client thinks for 5 ms in its block, and holds its server meanwhile.
    "thinks": "begin;\nselect sum(i) from generate_series(1, 1000) i;\n\\sleep 5 ms\nselect 1;\ncommit;",
    # One row that everybody changes.
    "contended": "update pgbench_branches set bbalance = bbalance + 1 where bid = 1;",
}
SAYS = {
    "cpu": "a sum over 3000 rows: nothing but processor time",
    "waits": "`pg_sleep(0.01)`: nothing but waiting",
    "thinks": "a block of two queries, with 5 ms between them in which the client thinks",
    "contended": "an update of the same row by everybody",
}

CONFIG = """
[listen]
addresses = ["127.0.0.1:{port}"]

[http]
address = "127.0.0.1:{http_port}"

[log]
level = "info"
statements = "none"

[runtime]
workers = 1

[auth]
method = "trust"
users_file = "{users_file}"

[domains.{database}]
hosts = ["127.0.0.1:{server_port}"]
user = "{user}"
password = "{password}"
pool = {{ {pool} }}
"""


@dataclass
class Figures:
    """What clients saw over some time."""

    rate: float
    p50: float
    p99: float


@dataclass
class Row:
    """All runs with one size, or from one start."""

    figures: list = field(default_factory=list)
    #: The limit every quarter of a second, by run.
    limits: list = field(default_factory=list)

    def median(self, name):
        return statistics.median(getattr(figures, name) for figures in self.figures)


class Proxy:
    """pgweir with one pool, for as long as the `with` lasts."""

    def __init__(self, binary, cluster, folder, pool):
        self.port, self.http_port = free_port(), free_port()
        users = folder / "users.txt"
        users.write_text(f'"{USER}" "{PASSWORD}"\n')
        config = folder / "pgweir.toml"
        config.write_text(CONFIG.format(
            port=self.port, http_port=self.http_port, users_file=users, database=DATABASE,
            server_port=cluster.port, user=USER, password=PASSWORD, pool=pool))
        self.service = Service("pgweir", [binary, "serve", "--config", config], self.port, folder)

    def __enter__(self):
        self.service.start()
        return self

    def __exit__(self, *_):
        self.service.stop()

    def limit(self):
        """How many servers may be lent now; None before there is a pool."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/status", timeout=5) as answer:
            pools = json.load(answer)["pools"]
        return pools[0]["limit"] if pools else None


class Watch:
    """Notes a pool's limit every quarter of a second, with the time."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.seen = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def _run(self):
        while not self.over.wait(0.25):
            try:
                limit = self.proxy.limit()
            except OSError:
                continue
            if limit is not None:
                self.seen.append((time.monotonic(), limit))


class Bench:
    """The cluster, and what is run against it."""

    def __init__(self, arguments, cluster, folder, user):
        self.arguments = arguments
        self.cluster = cluster
        self.folder = folder
        self.user = user
        self.random = random.Random(1)

    def load(self, name):
        """All figures of one load: rows by size, by start, and of the best size under the step."""
        fixed = {size: Row() for size in self.arguments.sizes}
        for _ in range(self.arguments.rounds):
            for size in self.random.sample(self.arguments.sizes, len(self.arguments.sizes)):
                fixed[size].figures.append(self._fixed(name, size))
        adaptive = {start: Row() for start in STARTS}
        long = Row()
        pools = [(fixed_pool(best_size(fixed)[0]), long)]
        pools += [(adaptive_pool(start), row) for start, row in adaptive.items()]
        for _ in range(self.arguments.step_rounds):
            for pool, row in self.random.sample(pools, len(pools)):
                self._step(name, pool, row)
        return fixed, adaptive, long

    def _fixed(self, name, size):
        with Proxy(self.arguments.pgweir_bin, self.cluster, self.folder, fixed_pool(size)) as proxy:
            return self._pgbench(proxy, name, CLIENTS, self.arguments.seconds + 1, skip=1)

    def _step(self, name, pool, row):
        """A few clients, and then many for long. What counts is the last third."""
        seconds = self.arguments.step_seconds
        with Proxy(self.arguments.pgweir_bin, self.cluster, self.folder, pool) as proxy, Watch(proxy) as watch:
            self._pgbench(proxy, name, CLIENTS_FEW, FEW_SECONDS, skip=0)
            stepped = time.monotonic()
            row.figures.append(self._pgbench(proxy, name, CLIENTS, seconds, skip=seconds * 2 // 3))
        row.limits.append([(at - stepped, limit) for at, limit in watch.seen])

    def _pgbench(self, proxy, name, clients, seconds, skip):
        """Runs pgbench, and reads its log from `skip` seconds on."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            if self.user is not None:
                shutil.chown(folder, self.user)
            script = Path(folder) / "load.sql"
            script.write_text(LOADS[name])
            script.chmod(0o644)
            argv = [self.cluster.bin / "pgbench", "-n", "-M", "simple", "-c", clients, "-j", 1, "-T", seconds,
                    "-f", script, "-l", "-h", "127.0.0.1", "-p", proxy.port, DATABASE]
            done = subprocess.run(
                [str(word) for word in argv], cwd=folder, env=environment(USER), capture_output=True,
                text=True, **as_user(self.user))
            if done.returncode != 0:
                raise StartError(f"pgbench failed: {done.stderr.strip()[-300:]}")
            return figures_of(Path(folder), skip)


def fixed_pool(size):
    return f"size = {size}, max_overflow = 0"


def adaptive_pool(start):
    return f"size = {start}, min = 1, max_overflow = {MOST - start}, adaptive = true"


def figures_of(folder, skip):
    """Rate and latencies by pgbench's log, without the first `skip` seconds."""
    ends, latencies = [], []
    for log in folder.glob("pgbench_log.*"):
        for line in log.read_text().splitlines():
            # client, transaction, latency in µs, script, seconds, µs
            words = line.split()
            ends.append(int(words[4]) + int(words[5]) / 1e6)
            latencies.append(int(words[2]) / 1e3)
    first = min(ends) + skip
    kept = sorted(latency for end, latency in zip(ends, latencies) if end >= first)
    span = max(ends) - first
    if not kept or span <= 0:
        raise StartError("nothing was done in the time that counts")
    return Figures(len(kept) / span, quantile(kept, 0.5), quantile(kept, 0.99))


def quantile(values, share):
    return values[min(len(values) - 1, int(len(values) * share))]


def last(limits, share=1 / 3):
    """The limits over the last `share` of the time."""
    end = limits[-1][0]
    return [limit for at, limit in limits if at >= end * (1 - share)]


def best_size(fixed):
    """The size with the highest rate, and the smallest that is as good."""
    best = max(fixed, key=lambda size: fixed[size].median("rate"))
    rate = fixed[best].median("rate")
    return best, min(size for size in fixed if fixed[size].median("rate") >= rate * AS_GOOD)


def report(name, fixed, adaptive, long):
    """The table of one load, as Markdown. `long`: the best fixed size, run as the adaptive ones are."""
    best, smallest = best_size(fixed)
    rate = fixed[best].median("rate")
    lines = [
        f"**{name}**: {SAYS[name]}", "",
        "| pool | transactions/s | of the best | p50 ms | p99 ms |", "| --- | --- | --- | --- | --- |"]
    for size, row in fixed.items():
        mark = " (best)" if size == best else ""
        lines.append(f"| size {size}{mark} | {cells(row, rate)} |")
    rate = long.median("rate")
    lines.append(f"| *step:* size {best} | {cells(long, rate)} |")
    for start, row in adaptive.items():
        ended = [statistics.median(last(limits)) for limits in row.limits]
        lines.append(f"| *step:* adaptive from {start}, at {statistics.median(ended):g} | {cells(row, rate)} |")
    lines += ["", f"Smallest size within 3 % of the best: {smallest}. " + reached(adaptive)]
    for start, row in adaptive.items():
        lines += ["", f"From {start}, each to the best size in the same round: {to_best(row, long)}."]
    return "\n".join(lines)


def to_best(row, long):
    """The rates of an adaptive pool's steps to those of the best fixed size beside them, and their median."""
    ratios = [figures.rate / beside.rate for figures, beside in zip(row.figures, long.figures)]
    return ", ".join(f"{ratio:.2f}" for ratio in ratios) + f", median {statistics.median(ratios):.2f}"


def cells(row, best):
    rate = row.median("rate")
    return f"{rate:.0f} | {rate / best:.2f} | {row.median('p50'):.1f} | {row.median('p99'):.1f}"


def reached(adaptive):
    """How long after the step each adaptive run was where it ended, for the first time."""
    words = []
    for start, row in adaptive.items():
        for limits in row.limits:
            end = statistics.median(last(limits))
            near = (at for at, limit in limits if at >= 0 and abs(limit - end) <= max(1, 0.2 * end))
            low, high = min(last(limits)), max(last(limits))
            words.append(f"From {start}: there after {next(near):.0f} s, then {low} to {high}.")
    return " ".join(words)


def sizes(text):
    return [tool.positive(word) for word in tool.words(text)]


def parse(argv):
    parser = tool.Parser(prog=PROG, description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=tool.words, default=list(LOADS), help="some loads: cpu,waits,thinks,contended")
    parser.add_argument("--pgweir-bin", type=Path, default=ROOT / "target/release/pgweir")
    parser.add_argument("--rounds", type=tool.positive, default=3)
    parser.add_argument("--seconds", type=tool.positive, default=2, help="of each run with a fixed size")
    parser.add_argument("--sizes", type=sizes, default=list(SIZES), help="fixed sizes")
    parser.add_argument("--step-rounds", type=tool.positive, default=2, help="of the best size and the adaptive pools")
    parser.add_argument("--step-seconds", type=tool.positive, default=40)
    parser.add_argument("--json", type=Path, help="all figures, for a program")
    arguments = parser.parse_args(argv)
    parser.refuse_unknown("--only", arguments.only, LOADS)
    if not arguments.pgweir_bin.exists():
        parser.error(f"{arguments.pgweir_bin} is not there: cargo build --release, or --pgweir-bin")
    arguments.pgweir_bin = arguments.pgweir_bin.resolve()
    return arguments


def main(argv=None):
    return tool.run(PROG, lambda: work(parse(argv)))


def work(arguments):
    user = ordinary_user()
    folder = temporary_folder(user)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        cluster = Cluster(folder, user, 100, certificates.make(folder, user))
        stack.callback(cluster.stop)
        cluster.start(scale=1)
        bench = Bench(arguments, cluster, folder, user)
        kept = {}
        for name in arguments.only:
            fixed, adaptive, long = bench.load(name)
            print(report(name, fixed, adaptive, long), flush=True)
            print(flush=True)
            kept[name] = {
                "long": [vars(f) for f in long.figures],
                "fixed": {size: [vars(f) for f in row.figures] for size, row in fixed.items()},
                "adaptive": {start: {"figures": [vars(f) for f in row.figures], "limits": row.limits}
                             for start, row in adaptive.items()}}
        if arguments.json:
            arguments.json.write_text(json.dumps(kept))
    return 0
