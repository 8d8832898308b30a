"""One pgbench run, and what it cost the proxy in between.

The window opens with pgbench's first progress line and closes with its last. Logging in,
opening server connections and the first Parse are before it, except where they are the load.
"""

import re
import subprocess
import threading
from dataclasses import dataclass, fields
from os import sysconf
from pathlib import Path
from statistics import median

TICKS_PER_SECOND = sysconf("SC_CLK_TCK")
WARM_UP_SECONDS = 1  # pgbench's first progress interval
PROGRESS = re.compile(r"^progress: (\d+\.\d+) s, (\d+\.\d+) tps")
FAILED = re.compile(r"^number of failed transactions: ([1-9]\d*)", re.MULTILINE)


@dataclass(frozen=True)
class Cost:
    """What a process has used since it started."""

    cpu_seconds: float
    voluntary_switches: int


@dataclass(frozen=True)
class Run:
    """One run's figures; CPU and switches belong to the proxy and are per transaction."""

    tps: float
    cpu_us: float
    switches: float


@dataclass(frozen=True)
class Failure:
    """A run that gave no figures, and why."""

    reason: str


class MeasureError(Exception):
    """pgbench or the proxy failed during a run."""


def cost_of(pid):
    """CPU time (user and system, all threads, ended ones too) and voluntary switches.

    Raises FileNotFoundError or ProcessLookupError when the process is gone.
    """
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


class Window:
    """Transactions and costs between the first and the last progress line."""

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
        cpu = self.cost_end.cpu_seconds - self.cost_begin.cpu_seconds
        switches = self.cost_end.voluntary_switches - self.cost_begin.voluntary_switches
        return Run(tps=self.transactions / (self.end - self.begin),
                   cpu_us=cpu * 1e6 / self.transactions,
                   switches=switches / self.transactions)


def measure(command, environment, pid, seconds):
    """Runs pgbench against the proxy `pid`; Run, or Failure with pgbench's own words."""
    try:
        return _watch(command, environment, pid, seconds).run()
    except (MeasureError, FileNotFoundError, ProcessLookupError) as error:
        return Failure(str(error))


def _watch(command, environment, pid, seconds):
    child = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True)
    watchdog = threading.Timer(seconds + 60, child.kill)
    watchdog.start()
    try:
        window, complaints = _read_progress(child.stderr, pid)
        summary = child.stdout.read()
        _judge(child.wait(), summary, complaints)
        return window
    finally:
        watchdog.cancel()
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


def _read_progress(lines, pid):
    window, complaints = Window(), []
    for line in lines:
        progress = PROGRESS.match(line)
        if progress:
            window.add(float(progress[1]), float(progress[2]), cost_of(pid))
        elif "error" in line or "fatal" in line.lower() or "aborted" in line:
            complaints.append(line.strip())
    return window, complaints


def _judge(status, summary, complaints):
    """Raises MeasureError unless pgbench ran to its end without a failed transaction."""
    if status != 0:
        raise MeasureError(complaints[0] if complaints else f"pgbench ended with status {status}")
    failed = FAILED.search(summary)
    if failed:
        raise MeasureError(f"{failed[1]} failed transactions")
    if complaints:
        raise MeasureError(complaints[0])


def medians(runs):
    """Medians of several runs; the first Failure if one of them failed."""
    for run in runs:
        if isinstance(run, Failure):
            return run
    return Run(**{field.name: median(getattr(run, field.name) for run in runs)
                  for field in fields(Run)})
