"""What a scenario's clients do: pgbench, pgweir-load, or an application in Python.

Each has `run(bench, target, setup, seconds)`, which returns a Run or raises MeasureError, and
`connections`, the number of its clients.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from cluster import DATABASE, environment
from measure import Marks, MeasureError, Progress, watch

LOG = "log"
PGBENCH_WARM_UP_SECONDS = 1  # its first progress interval
PGBENCH_SECONDS_MIN = 2  # a line may be left out where 250 clients log in slowly
WARM_UP_SECONDS = 0.5
SECONDS_MIN = 0.5  # 10,000 clients have to be answered in them
PROGRAM = Path(__file__).with_name("application.py")


@dataclass(frozen=True)
class Pgbench:
    """pgbench's own transaction, or scripts, each with its weight."""

    connections: int
    options: tuple
    scripts: tuple = ()
    #: The script whose latencies are told.
    timed_script: int | None = None

    def run(self, bench, target, setup, seconds):
        seconds = max(PGBENCH_SECONDS_MIN, round(seconds)) + PGBENCH_WARM_UP_SECONDS
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            command = self.command(bench, target.port, seconds, Path(folder))
            run = watch(command, environment(target.client(setup), setup.tls_client),
                        Progress(target.pid), seconds)
            if self.timed_script is not None:
                run |= self.latencies(Path(folder))
        return run

    def command(self, bench, port, seconds, folder):
        """The command line, with its files in `folder`; the database and user come from the environment."""
        sources = []
        for number, (text, weight) in enumerate(self.scripts):
            path = folder / f"{number}.sql"
            path.write_text(text)
            sources += ["-f", f"{path}@{weight}"]
        logging = [] if self.timed_script is None else ["--log", f"--log-prefix={folder / LOG}"]
        return [bench.pgbench, *self.options, *sources, *logging, "-c", self.connections,
                "-j", bench.jobs, "-T", seconds, "-P", 1, "--progress-timestamp",
                "-h", "127.0.0.1", "-p", port]

    def latencies(self, folder):
        """From pgbench's log: client, number, microseconds, script, and the time."""
        lines = (line.split() for path in folder.glob(f"{LOG}.*")
                 for line in path.read_text().splitlines())
        return percentiles([int(line[2]) for line in lines if int(line[3]) == self.timed_script])


def percentiles(latencies):
    """Median and 99 % of microseconds."""
    if len(latencies) < 2:
        raise MeasureError("no transaction was timed")
    cuts = quantiles(latencies, n=100)
    return {"p50_us": cuts[49], "p99_us": cuts[98]}


@dataclass(frozen=True)
class Closed:
    """So many clients ask as fast as they are answered; pgweir-load."""

    clients: int
    text: str = "select 1"
    texts: int = 1
    prepared: bool = False
    idle: int = 0
    slow_reader: int | None = None
    mode = "closed"

    @property
    def connections(self):
        return self.clients + self.idle

    def run(self, bench, target, setup, seconds):
        seconds = max(SECONDS_MIN, seconds)
        command = [bench.load, *self.words(bench), "--address", f"127.0.0.1:{target.port}",
                   "--user", target.client(setup), "--database", DATABASE, "--seconds", seconds]
        if setup.databases > 1:
            command += ["--databases", setup.databases]
        run = watch(command, None, Marks(target.pid), seconds)
        run["tps"] = run.pop("per_second")
        run["tail"] = run["p99_us"] / run["p50_us"]
        return run

    def words(self, _bench):
        """The command of pgweir-load, and what it is told of the load."""
        options = [self.mode, "--clients", self.clients, "--text", self.text, "--texts", self.texts,
                   "--idle", self.idle, "--warm-up", WARM_UP_SECONDS]
        if self.prepared:
            options.append("--prepared")
        if self.slow_reader is not None:
            options += ["--slow-reader", self.slow_reader]
        return options


@dataclass(frozen=True)
class Open(Closed):
    """Requests come at a rate, whatever comes back: a share of what another scenario showed to be borne."""

    share: float = 1.0
    saturated: str = ""
    mode = "open"

    def run(self, bench, target, setup, seconds):
        run = super().run(bench, target, setup, seconds)
        del run["tail"]  # it tells of fairness where all wait, and most do not
        return run

    def words(self, bench):
        rate = self.share * bench.saturation(self.saturated)
        return [*super().words(bench), "--rate", f"{rate:.0f}"]


@dataclass(frozen=True)
class Application:
    """A piece of an application in Python, in a process of its own (`application.py`)."""

    topic: str
    connections: int

    def run(self, bench, target, setup, seconds):
        if not bench.python.exists():
            raise MeasureError(f"there is no {bench.python}: "
                               "tests/setup.sh puts psycopg2 and asyncpg into .venv")
        command = [bench.python, PROGRAM, self.topic, "--port", target.port, "--seconds", seconds,
                   "--clients", self.connections]
        return watch(command, environment(target.client(setup)), Marks(target.pid), seconds)
