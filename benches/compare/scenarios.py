"""What is run: the scenarios a to i of the design's performance page, as pgbench commands."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """One load. CPU is told in `unit` per transaction."""

    key: str
    title: str
    clients: int
    options: tuple
    script: str | None = None
    prepared: bool = False
    unit: str = "µs"

    def command(self, pgbench, target, seconds, script_file, jobs):
        """The pgbench command line; the database and user come from the environment."""
        source = ("-f", script_file) if self.script else ()
        return [str(word) for word in (
            pgbench, *self.options, *source, "-c", self.clients, "-j", jobs, "-T", seconds,
            "-P", "1", "--progress-timestamp", "-h", "127.0.0.1", "-p", target.port)]


ALL = (
    Scenario("a", "-S simple c=8", 8, ("-n", "-S", "-M", "simple")),
    Scenario("b", "-S prepared c=8", 8, ("-n", "-S", "-M", "prepared"), prepared=True),
    Scenario("c", "-S extended c=8", 8, ("-n", "-S", "-M", "extended")),
    Scenario("d", "-S prepared c=64", 64, ("-n", "-S", "-M", "prepared"), prepared=True),
    Scenario("e", "-S prepared c=250", 250, ("-n", "-S", "-M", "prepared"), prepared=True),
    Scenario("f", "select 1 simple c=32", 32, ("-n", "-M", "simple"), script="select 1;\n"),
    Scenario("g", "connect per tx c=8", 8, ("-n", "-S", "-M", "simple", "-C")),
    Scenario("h", "100k rows c=2", 2, ("-n", "-M", "simple"), unit="ms",
             script="select * from pgbench_accounts limit 100000;\n"),
    # Without -n: pgbench vacuums its small tables first, before the measured window.
    Scenario("i", "TPC-B simple c=16", 16, ("-M", "simple")),
)


def chosen(keys):
    """The scenarios named by `keys`; KeyError names one that does not exist."""
    known = {scenario.key: scenario for scenario in ALL}
    return [known[key] for key in keys] if keys else list(ALL)
