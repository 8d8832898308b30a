"""The figures as aligned tables, markdown and JSON. Nothing is ever left blank in silence."""

import json
from dataclasses import asdict, dataclass, field
from statistics import median

import published
from measure import Failure, Run, medians
from memory import Memory


#: The family of an older build of pgweir that a change is compared with.
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
    scenarios: list
    #: (scenario key, target name) → a list of Run or Failure, or NotApplicable
    outcomes: dict = field(default_factory=dict)
    #: proxy name → Memory or Failure
    memory: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    def median(self, key, name):
        """Run, Failure or NotApplicable of one scenario through one target."""
        outcome = self.outcomes.get((key, name), NotApplicable("not run"))
        return medians(outcome) if isinstance(outcome, list) else outcome

    def proxies(self):
        return [name for name in self.versions if name != "direct"]

    def judged(self):
        """The pgweir column that bounds apply to: the one with fewest workers."""
        return next((name for name in self.versions if name.startswith("pgweir")), None)

    def before(self):
        """The column of the older build, if there is one."""
        return next((name for name in self.versions if name.startswith(BEFORE)), None)

    def ratio(self, key, name, other, figure):
        """`name`'s figure over `other`'s: the median of what the rounds say; None where either has none.

        Both are from the same round, for the machine is not the same in each.
        """
        if not all(isinstance(self.median(key, side), Run) for side in (name, other)):
            return None
        if figure != "tps" and "direct" in (name, other):
            return None  # a direct connection has no proxy whose cost could be compared
        pairs = zip(self.outcomes[key, name], self.outcomes[key, other], strict=True)
        figures = [(getattr(mine, figure), getattr(theirs, figure)) for mine, theirs in pairs]
        if not all(below for _above, below in figures):
            return None
        return median(above / below for above, below in figures)


@dataclass
class Table:
    """A titled table of text."""

    title: str
    head: list
    rows: list


class Footnotes:
    """Reasons, numbered once each."""

    def __init__(self):
        self.reasons = []

    def mark(self, reason):
        if reason not in self.reasons:
            self.reasons.append(reason)
        return f"[{self.reasons.index(reason) + 1}]"


def tables(results):
    """All tables of a report, with the footnotes that their cells refer to."""
    notes = Footnotes()
    for note in results.notes:
        notes.mark(note)
    made = []
    if results.outcomes:
        made += [_cpu(results, notes), _throughput(results, notes), _switches(results, notes)]
        if results.judged():
            made.append(_bounds(results, notes))
        if results.before() and results.judged():
            made.append(_change(results, notes))
    if results.memory:
        made.append(_memory(results, notes))
    return made, notes.reasons


def _cell(outcome, notes, text):
    """The text of a Run, or what stands in for it."""
    if isinstance(outcome, Failure):
        return f"failed {notes.mark(outcome.reason)}"
    if isinstance(outcome, NotApplicable):
        return f"n/a {notes.mark(outcome.reason)}"
    return text(outcome)


def _with_ratio(value, ratio):
    return value if ratio is None else f"{value} ({ratio:.2f})"


def _grid(results, names, notes, text):
    """One row per scenario, one column per target; `text(scenario, name, run)` fills cells."""
    return [[f"{scenario.key}. {scenario.title}"] + [
        _cell(results.median(scenario.key, name), notes,
              lambda run, scenario=scenario, name=name: text(scenario, name, run))
        for name in names] for scenario in results.scenarios]


def _cpu(results, notes):
    def text(scenario, name, run):
        scaled = run.cpu_us / 1000 if scenario.unit == "ms" else run.cpu_us
        ratio = results.ratio(scenario.key, name, "haproxy", "cpu_us")
        return _with_ratio(f"{scaled:.1f} {scenario.unit}", None if name == "haproxy" else ratio)

    names = results.proxies()
    return Table("CPU of the proxy per transaction (ratio to haproxy)", ["scenario", *names],
                 _grid(results, names, notes, text))


def _throughput(results, notes):
    def text(scenario, name, run):
        ratio = results.ratio(scenario.key, name, "direct", "tps")
        return _with_ratio(f"{run.tps:.0f}" if run.tps >= 100 else f"{run.tps:.1f}",
                           None if name == "direct" else ratio)

    names = list(results.versions)
    return Table("Transactions per second (ratio to direct)", ["scenario", *names],
                 _grid(results, names, notes, text))


def _switches(results, notes):
    names = results.proxies()
    return Table("Voluntary context switches of the proxy per transaction", ["scenario", *names],
                 _grid(results, names, notes, lambda _scenario, _name, run: f"{run.switches:.2f}"))


def _bounds(results, notes):
    name = results.judged()
    rows = []
    for scenario in results.scenarios:
        key = scenario.key
        ratio = results.ratio(key, name, "haproxy", "cpu_us")
        rows.append([
            f"{key}. {scenario.title}",
            f"{published.pgbouncer_ratio(key):.2f}",
            f"{published.bound(key):.2f}",
            _ratio_or_why(results, key, name, ratio, notes),
            _verdict(ratio, published.bound(key)),
            _goal(results, key, name, ratio),
            _compared_with_pgbouncer(results, key, name),
        ])
    head = ["scenario", "published PgBouncer", f"bound ({published.SLACK} ×)", name, "met",
            "final goal", "to pgbouncer here"]
    title = f"CPU of {name} as a ratio to haproxy: bound and goal"
    return Table(title, head, rows)


def _change(results, notes):
    """What this build costs against the older one, in the same run."""
    before, now = results.before(), results.judged()
    rows = []
    for scenario in results.scenarios:
        ratios = [results.ratio(scenario.key, now, before, figure) for figure in ("cpu_us", "tps")]
        rows.append([f"{scenario.key}. {scenario.title}"] + [
            _cell(results.median(scenario.key, name), notes, lambda run: f"{run.cpu_us:.1f} µs")
            for name in (before, now)
        ] + ["–" if ratio is None else f"{ratio:.2f}" for ratio in ratios])
    return Table(f"{now} against {before}", ["scenario", before, now, "CPU ratio", "TPS ratio"],
                 rows)


def _ratio_or_why(results, key, name, ratio, notes):
    if ratio is not None:
        return f"{ratio:.2f}"
    for target in (name, "haproxy"):
        outcome = results.median(key, target)
        if not isinstance(outcome, Run):
            return f"{target}: {_cell(outcome, notes, str)}"
    return f"n/a {notes.mark('haproxy used no measurable CPU')}"


def _verdict(value, limit):
    if value is None:
        return "unknown"
    return "yes" if value <= limit else "NO"


def _goal(results, key, name, ratio):
    """The goal of the performance page and whether it is reached; g's is in µs."""
    if published.GOAL[key] is not None:
        return f"≤ {published.GOAL[key]:.2f}: {_verdict(ratio, published.GOAL[key])}"
    run = results.median(key, name)
    cpu = run.cpu_us if isinstance(run, Run) else None
    return f"≤ {published.GOAL_CONNECT_US:.0f} µs: {_verdict(cpu, published.GOAL_CONNECT_US)}"


def _compared_with_pgbouncer(results, key, name):
    ratio = results.ratio(key, name, "pgbouncer", "cpu_us")
    return "–" if ratio is None else f"{ratio:.2f}"


def _memory(results, notes):
    rows = []
    for name, outcome in results.memory.items():
        if isinstance(outcome, Memory):
            rows.append([name, str(outcome.clients), f"{outcome.base_kb / 1024:.1f} MB",
                         f"{outcome.idle_kb:.1f} KB", f"{outcome.queried_kb:.1f} KB",
                         _memory_verdict(name, outcome)])
        else:
            rows.append([name, _cell(outcome, notes, str), "–", "–", "–", "–"])
    head = ["proxy", "clients", "base", "idle", "after one query each",
            f"≤ {published.MEMORY_BOUND_KB:.0f} KB (goal {published.MEMORY_GOAL_KB})"]
    return Table("Resident memory: base, and per connected client", head, rows)


def _memory_verdict(name, memory):
    if not name.startswith("pgweir"):
        return "–"
    worst = max(memory.idle_kb, memory.queried_kb)
    return (f"{_verdict(worst, published.MEMORY_BOUND_KB)} "
            f"(goal {_verdict(worst, published.MEMORY_GOAL_KB)})")


def plain(results):
    """The report for a terminal."""
    made, reasons = tables(results)
    parts = [_aligned(table) for table in made] + [_footer(results, reasons)]
    return "\n\n".join(parts) + "\n"


def _aligned(table):
    lines = [table.head, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.head))]
    body = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
            for line in lines]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([table.title, "", body[0], rule, *body[1:]])


def markdown(results):
    """The report for an issue or a page."""
    made, reasons = tables(results)
    parts = [_markdown_table(table) for table in made] + [_footer(results, reasons)]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table):
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    return "\n".join([f"### {table.title}", ""] + [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines])


def _footer(results, reasons):
    settings = ", ".join(f"{name} {value}" for name, value in results.settings.items())
    versions = "; ".join(f"{name}: {version}" for name, version in results.versions.items())
    numbered = [f"[{number}] {reason}  " for number, reason in enumerate(reasons, 1)]
    return "\n".join([*numbered, f"Settings: {settings}  ", f"Versions: {versions}"])


def as_json(results):
    """Every run and the medians, for programs."""
    runs = []
    for (key, name), outcome in results.outcomes.items():
        rounds = outcome if isinstance(outcome, list) else []
        runs.append({"scenario": key, "target": name,
                     "rounds": [_json(run, name) for run in rounds],
                     "median": _json(results.median(key, name), name),
                     "cpu_ratio_to_haproxy": results.ratio(key, name, "haproxy", "cpu_us"),
                     "tps_ratio_to_direct": results.ratio(key, name, "direct", "tps")})
    return json.dumps({
        "settings": results.settings, "versions": results.versions, "notes": results.notes,
        "scenarios": runs, "bounds": {s.key: published.bound(s.key) for s in results.scenarios},
        "memory": {name: _json(outcome, name) for name, outcome in results.memory.items()},
    }, indent=2, ensure_ascii=False) + "\n"


def _json(outcome, name):
    """Figures, or the reason there are none under the name of its kind."""
    if isinstance(outcome, Run) and name == "direct":
        return {"tps": outcome.tps}  # there is no proxy to cost anything
    if isinstance(outcome, Run | Memory):
        return asdict(outcome)
    return {"failed" if isinstance(outcome, Failure) else "not_applicable": outcome.reason}
