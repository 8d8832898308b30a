"""One run: a child process that loads, what it says, and what it costs the proxy meanwhile.

The window is between two signs that the child gives on standard error. Logging in, opening server
connections and the first Parse are before it, except where they are the load.
"""

import json
import re
import subprocess
import threading
from dataclasses import dataclass
from os import sysconf
from pathlib import Path
from statistics import median

TICKS_PER_SECOND = sysconf("SC_CLK_TCK")
PROGRESS = re.compile(r"^progress: (\d+\.\d+) s, (\d+\.\d+) tps")
FAILED = re.compile(r"^number of failed transactions: ([1-9]\d*)", re.MULTILINE)


class Run(dict):
    """Figures of one run by name. Costs are the proxy's own, and per transaction."""


@dataclass(frozen=True)
class Failure:
    """A run that gave no figures, and why."""

    reason: str


class MeasureError(Exception):
    """A load or the proxy failed during a run."""


@dataclass(frozen=True)
class Cost:
    """What a process has used since it started."""

    cpu_seconds: float
    voluntary_switches: int


def cost_of(pid):
    """CPU time (user and system, all threads, ended ones too) and voluntary switches; None for no process.

    Raises FileNotFoundError or ProcessLookupError when the process is gone.
    """
    if pid is None:
        return None
    # The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(stat[11]) + int(stat[12])
    switches = sum(_voluntary_switches(task) for task in Path(f"/proc/{pid}/task").iterdir())
    return Cost(ticks / TICKS_PER_SECOND, switches)


def _voluntary_switches(task):
    for line in (task / "status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    return 0


def resident_kb(pid):
    """Resident memory in KB, exactly: the figure in `status` lags behind by pages per thread."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    raise MeasureError("the kernel tells no resident memory")


def per_transaction(begin, end, transactions):
    """The figures of a proxy that cost `begin` before so many transactions and `end` behind them."""
    if begin is None:
        return {}
    cpu = end.cpu_seconds - begin.cpu_seconds
    switches = end.voluntary_switches - begin.voluntary_switches
    return {"cpu_us": cpu * 1e6 / transactions, "switches": switches / transactions}


class Window:
    """Transactions and costs between pgbench's first and its last progress line."""

    def __init__(self):
        self.begin = None
        self.end = None
        self.transactions = 0.0
        self.cost_begin = None
        self.cost_end = None

    def add(self, at, tps, cost):
        """Takes one progress line: the time it was written, and the rate since the one before."""
        if self.begin is None:
            self.begin, self.cost_begin = at, cost
        else:
            self.transactions += tps * (at - self.end)
        self.end, self.cost_end = at, cost

    def run(self):
        """The figures of the window; MeasureError if nothing happened in it."""
        if self.begin == self.end or self.transactions < 1:
            raise MeasureError("no transaction in the measured window")
        return Run(tps=self.transactions / (self.end - self.begin),
                   **per_transaction(self.cost_begin, self.cost_end, self.transactions))


class Progress:
    """Understands pgbench."""

    def __init__(self, pid):
        self.pid = pid
        self.window = Window()
        self.complaints = []

    def hear(self, line):
        progress = PROGRESS.match(line)
        if progress:
            self.window.add(float(progress[1]), float(progress[2]), cost_of(self.pid))
        elif "error" in line or "fatal" in line.lower() or "aborted" in line:
            self.complaints.append(line.strip())

    def run(self, summary):
        failed = FAILED.search(summary)
        if failed:
            raise MeasureError(f"{failed[1]} failed transactions")
        if self.complaints:
            raise MeasureError(self.complaints[0])
        return self.window.run()


class Marks:
    """Understands loads that say `begin` and `end`, and print their figures as one JSON object."""

    def __init__(self, pid):
        self.pid = pid
        self.costs = []
        self.memory_kb = None
        self.complaints = []

    def hear(self, line):
        if line.strip() not in ("begin", "end"):
            self.complaints.insert(0, line.strip())  # the last line of a traceback says most
            return
        self.costs.append(cost_of(self.pid))
        if len(self.costs) == 2 and self.pid is not None:
            self.memory_kb = resident_kb(self.pid)

    def run(self, summary):
        said = json.loads(summary)
        if len(self.costs) != 2 or said["transactions"] < 1:
            raise MeasureError("no transaction in the measured window")
        figures = {name: value for name, value in said.items() if name != "transactions"}
        if self.memory_kb is not None:
            figures["memory_mb"] = self.memory_kb / 1024
        return Run(**figures, **per_transaction(*self.costs, said["transactions"]))


def watch(command, environment, listener, seconds):
    """Runs a load that takes about so many seconds; Run, or MeasureError with the load's own words.

    Raises FileNotFoundError or ProcessLookupError when the proxy is gone.
    """
    child = subprocess.Popen(
        [str(word) for word in command], env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    watchdog = threading.Timer(seconds + 60, child.kill)
    watchdog.start()
    try:
        for line in child.stderr:
            listener.hear(line)
        summary = child.stdout.read()
        status = child.wait()
        if status != 0:
            told = listener.complaints[:1] or [f"{Path(command[0]).name} ended with status {status}"]
            raise MeasureError(told[0])
        return listener.run(summary)
    finally:
        watchdog.cancel()
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


def medians(runs):
    """Medians of several runs, figure by figure; the first Failure if one of them failed."""
    for run in runs:
        if isinstance(run, Failure):
            return run
    return Run({name: median(run[name] for run in runs) for name in runs[0]} if runs else {})
