"""What a scenario is, and a family of them with the figures that they give."""

from dataclasses import dataclass, replace

from targets import Setup

#: What a ratio may be to, beside a target: the first scenario of the same series, through the same target.
FIRST = "first"


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
    #: A scenario of the same family that has to have been run before.
    needs: str | None = None


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


@dataclass(frozen=True)
class Family:
    """Scenarios that are told of in the same tables."""

    key: str
    title: str
    scenarios: tuple
    figures: tuple


def chosen(all_families, names):
    """The families with those scenarios that `names` names, by their keys or their families' keys, and those
    that these need. All, if it names none."""
    picked = []
    for family in all_families:
        wanted = {scenario.key for scenario in family.scenarios
                  if not names or family.key in names or scenario.key in names}
        wanted |= {scenario.needs for scenario in family.scenarios if scenario.key in wanted}
        scenarios = tuple(scenario for scenario in family.scenarios if scenario.key in wanted)
        if scenarios:
            picked.append(replace(family, scenarios=scenarios))
    return picked


def names(all_families):
    """What `chosen` understands."""
    return [name for family in all_families
            for name in dict.fromkeys((family.key, *(one.key for one in family.scenarios)))]
