"""What is run: families of scenarios, each a load and how the targets stand for it, and the figures they give."""

from dataclasses import dataclass

from loads import Pgbench
from memory import Weigh
from targets import Setup

#: What a ratio may be to, beside a target: the first scenario of the same series, through the same target.
FIRST = "first"
NULL = Setup(server="null")


@dataclass(frozen=True)
class Scenario:
    """One load against targets that stand in one way."""

    key: str
    title: str
    load: object
    setup: Setup = Setup()
    #: It needs prepared statements that outlive a transaction.
    prepared: bool = False
    #: Scenarios of one series are run mixed, so that each may be compared with the first.
    series: str | None = None
    #: Kinds of targets; all, if there are none.
    only: tuple = ()
    #: The part of the seconds per run that it takes.
    share: float = 1.0


@dataclass(frozen=True)
class Figure:
    """A table of a family: which figure, in which unit, and what its ratios are to."""

    name: str
    title: str
    unit: str = ""
    base: str | None = None
    #: The proxy's own: a direct connection has none.
    own: bool = False

    def text(self, value):
        if self.unit == "µs" and value >= 1000:
            return f"{value / 1000:.1f} ms"
        digits = 0 if not self.unit and value >= 100 else 1 if self.unit or value >= 10 else 2
        return f"{value:.{digits}f} {self.unit}".strip()


CPU = Figure("cpu_us", "CPU of the proxy per transaction", "µs", "haproxy", own=True)
TPS = Figure("tps", "Transactions per second", "", "direct")
SWITCHES = Figure("switches", "Voluntary context switches of the proxy per transaction", own=True)


@dataclass(frozen=True)
class Family:
    """Scenarios that are told of in the same tables."""

    key: str
    title: str
    scenarios: tuple
    figures: tuple


CORE = Family("core", "The core", (
    Scenario("a", "-S simple c=8", Pgbench(8, ("-n", "-S", "-M", "simple"))),
    Scenario("b", "-S prepared c=8", Pgbench(8, ("-n", "-S", "-M", "prepared")), prepared=True),
    Scenario("c", "-S extended c=8", Pgbench(8, ("-n", "-S", "-M", "extended"))),
    Scenario("d", "-S prepared c=64", Pgbench(64, ("-n", "-S", "-M", "prepared")), prepared=True),
    Scenario("e", "-S prepared c=250", Pgbench(250, ("-n", "-S", "-M", "prepared")), prepared=True),
    Scenario("f", "select 1 simple c=32",
             Pgbench(32, ("-n", "-M", "simple"), (("select 1;\n", 1),))),
    Scenario("g", "connect per tx c=8", Pgbench(8, ("-n", "-S", "-M", "simple", "-C"))),
    Scenario("h", "100k rows c=2", Pgbench(2, ("-n", "-M", "simple"), (
        ("select * from pgbench_accounts limit 100000;\n", 1),))),
    # Without -n: pgbench vacuums its small tables first, before the measured window.
    Scenario("i", "TPC-B simple c=16", Pgbench(16, ("-M", "simple"))),
), (CPU, TPS, SWITCHES))


def memory(clients):
    return Family("memory", "Memory", (
        Scenario("memory", f"{clients} clients", Weigh(clients), NULL,
                 only=("haproxy", "pgbouncer", "pgweir")),
    ), (
        Figure("base_mb", "Resident memory without clients", "MB", own=True),
        Figure("idle_kb", "Resident memory per client that has logged in", "KB", own=True),
        Figure("queried_kb", "Resident memory per client that has asked once", "KB", own=True),
    ))


def families(memory_clients):
    """All there are, in the order in which they are run."""
    return (CORE, memory(memory_clients))


def chosen(all_families, names):
    """The families with those scenarios that `names` names, by their keys or their families' keys."""
    picked = []
    for family in all_families:
        scenarios = tuple(scenario for scenario in family.scenarios
                          if not names or family.key in names or scenario.key in names)
        if scenarios:
            picked.append(Family(family.key, family.title, scenarios, family.figures))
    return picked


def names(all_families):
    """What `chosen` understands."""
    return [name for family in all_families
            for name in (family.key, *(scenario.key for scenario in family.scenarios))]
