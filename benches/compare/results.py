"""What a comparison has found: every run, its medians and ratios, to a file and back."""

import json
from dataclasses import dataclass, field
from statistics import median

from measure import Failure, Run, medians

#: The kind of an older build of pgweir that a change is compared with.
BEFORE = "before"


@dataclass(frozen=True)
class NotApplicable:
    """A scenario that a target cannot run, and why."""

    reason: str


@dataclass
class Results:
    """What a comparison has found, in the order it was asked for."""

    settings: dict
    versions: dict
    families: list
    #: (scenario key, target name) → a list of Run or Failure, or NotApplicable
    outcomes: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    def median(self, key, name):
        """Run, Failure or NotApplicable of one scenario through one target."""
        outcome = self.outcomes.get((key, name), NotApplicable("not run"))
        return medians(outcome) if isinstance(outcome, list) else outcome

    def figure(self, key, name, figure):
        """The median of one figure; None where there is none."""
        found = self.median(key, name)
        return found.get(figure) if isinstance(found, Run) else None

    def proxies(self):
        return [name for name in self.versions if name != "direct"]

    def judged(self):
        """The pgweir column that bounds apply to: the one with fewest workers."""
        return next((name for name in self.versions if name.startswith("pgweir")), None)

    def before(self):
        """The column of the older build, if there is one."""
        return next((name for name in self.versions if name.startswith(BEFORE)), None)

    def ratio(self, above, below, figure):
        """One figure of `above` over that of `below`, both a scenario and a target; None where either has none.

        The median of what the rounds say, for the machine is not the same in each.
        """
        if not all(self.figure(*side, figure) for side in (above, below)):
            return None
        pairs = zip(self.outcomes[above], self.outcomes[below], strict=True)
        figures = [(mine[figure], theirs[figure]) for mine, theirs in pairs]
        if not all(divisor for _dividend, divisor in figures):
            return None
        return median(dividend / divisor for dividend, divisor in figures)


def as_json(results):
    """Every run, the medians and what ratios there are to haproxy and a direct connection."""
    runs = []
    for (key, name), outcome in results.outcomes.items():
        rounds = outcome if isinstance(outcome, list) else []
        runs.append({"scenario": key, "target": name,
                     "rounds": [_plain(run) for run in rounds],
                     "median": _plain(results.median(key, name)),
                     "cpu_ratio_to_haproxy": results.ratio((key, name), (key, "haproxy"), "cpu_us"),
                     "tps_ratio_to_direct": results.ratio((key, name), (key, "direct"), "tps")})
    return json.dumps({"settings": results.settings, "versions": results.versions,
                       "notes": results.notes, "scenarios": runs},
                      indent=1, ensure_ascii=False) + "\n"


def _plain(outcome):
    """Figures, or the reason there are none under the name of its kind."""
    if isinstance(outcome, Run):
        return outcome
    return {"failed" if isinstance(outcome, Failure) else "not_applicable": outcome.reason}


def from_json(text, families):
    """The results that `as_json` has written, with those of `families` and their scenarios that it knows of."""
    read = json.loads(text)
    outcomes = {}
    for one in read["scenarios"]:
        rounds = [_outcome(run) for run in one["rounds"]]
        outcomes[one["scenario"], one["target"]] = rounds or _outcome(one["median"])
    return Results(read["settings"], read["versions"], families, outcomes, read["notes"])


def joined(parts):
    """One Results of several, each of a part of the scenarios; where two have the same, the later one's."""
    names = dict.fromkeys(name for part in parts for name in part.settings)
    return Results(
        {name: _together(part.settings[name] for part in parts if name in part.settings)
         for name in names},
        {name: version for part in parts for name, version in part.versions.items()},
        parts[0].families,
        {key: outcome for part in parts for key, outcome in part.outcomes.items()},
        list(dict.fromkeys(note for part in parts for note in part.notes)))


def _together(values):
    """What all of them are, or each of them once."""
    alike = list(dict.fromkeys(values))
    return alike[0] if len(alike) == 1 else " and ".join(map(str, alike))


def _outcome(plain):
    if "failed" in plain:
        return Failure(plain["failed"])
    if "not_applicable" in plain:
        return NotApplicable(plain["not_applicable"])
    return Run(plain)
