"""The figures as aligned tables and markdown. Nothing is ever left blank in silence."""

from dataclasses import dataclass

import published
from families import CORE, CPU, TPS
from measure import Failure, Run
from process import StartError
from results import NotApplicable
from scenarios import FIRST

#: Where a page has its report.
BEGIN, END = "<!-- report -->", "<!-- end of report -->"


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
    """All tables of a report, and the footnotes that their cells refer to."""
    notes = Footnotes()
    for note in results.notes:
        notes.mark(note)
    made = []
    for family in results.families:
        made += [_figure(results, family, figure, notes) for figure in family.figures]
        if results.judged() and family.key in GOALS:
            made.append(GOALS[family.key](results, family, notes))
    if results.before() and results.judged():
        made.append(_change(results, notes))
    return [table for table in made if table.rows], notes.reasons


def _figure(results, family, figure, notes):
    """One row per scenario that has the figure, one column per target that was asked for it."""
    scenarios = [scenario for scenario in family.scenarios
                 if any(_tells(results, scenario, name, figure) for name in results.versions)]
    names = [name for name in (results.proxies() if figure.own else results.versions)
             if any((scenario.key, name) in results.outcomes for scenario in scenarios)]
    rows = []
    for scenario in scenarios:
        rows.append([_row_title(scenario)] + [
            _cell(results, scenario, name, figure, _base(scenario, name, figure, scenarios), notes)
            for name in names])
    told = {None: "", FIRST: " (ratio to the first of its kind)"}.get(
        figure.base, f" (ratio to {figure.base})")
    title = figure.title if family.key == CORE.key else f"{family.title}: {_lower(figure.title)}"
    return Table(title + told, ["scenario", *names], rows)


def _tells(results, scenario, name, figure):
    """True unless there is nothing, or a run that gave other figures."""
    if (scenario.key, name) not in results.outcomes:
        return False
    outcome = results.median(scenario.key, name)
    return not isinstance(outcome, Run) or figure.name in outcome


def _base(scenario, name, figure, scenarios):
    """What a cell is told as a ratio to: a scenario and a target; None for nothing, or itself."""
    if figure.base == FIRST:
        first = next(one for one in scenarios if one.series == scenario.series)
        base = (first.key, name)
    else:
        base = (scenario.key, figure.base)
    return None if base == (scenario.key, name) else base


def _cell(results, scenario, name, figure, base, notes):
    if (scenario.key, name) not in results.outcomes:
        return "–"
    outcome = results.median(scenario.key, name)
    if isinstance(outcome, Failure):
        return f"failed {notes.mark(outcome.reason)}"
    if isinstance(outcome, NotApplicable):
        return f"n/a {notes.mark(outcome.reason)}"
    if figure.name not in outcome:
        return "–"
    value = figure.text(outcome[figure.name])
    ratio = base and results.ratio((scenario.key, name), base, figure.name)
    return f"{value} ({ratio:.2f})" if ratio else value


def _row_title(scenario):
    return f"{scenario.key}. {scenario.title}" if len(scenario.key) == 1 else scenario.title


def _lower(title):
    """A title in the middle of a line."""
    return title if title[:2].isupper() or title[1:2].isdigit() else title[0].lower() + title[1:]


def _bounds(results, family, notes):
    name = results.judged()
    rows = []
    for scenario in family.scenarios:
        key = scenario.key
        ratio = results.ratio((key, name), (key, "haproxy"), "cpu_us")
        to_pgbouncer = results.ratio((key, name), (key, "pgbouncer"), "cpu_us")
        rows.append([
            _row_title(scenario),
            f"{published.pgbouncer_ratio(key):.2f}",
            f"{published.bound(key):.2f}",
            f"{ratio:.2f}" if ratio else _why_not(results, scenario, name, notes),
            _verdict(ratio, published.bound(key)),
            _goal(results, key, name, ratio),
            f"{to_pgbouncer:.2f}" if to_pgbouncer else "–",
        ])
    head = ["scenario", "published PgBouncer", f"bound ({published.SLACK} ×)", name, "met",
            "final goal", "to pgbouncer here"]
    return Table(f"CPU of {name} as a ratio to haproxy: bound and goal", head, rows)


def _why_not(results, scenario, name, notes):
    for target in (name, "haproxy"):
        outcome = results.median(scenario.key, target)
        if isinstance(outcome, Failure):
            return f"{target}: failed {notes.mark(outcome.reason)}"
        if isinstance(outcome, NotApplicable):
            return f"{target}: n/a {notes.mark(outcome.reason)}"
    return f"n/a {notes.mark('haproxy used no measurable CPU')}"


def _verdict(value, limit):
    if value is None:
        return "unknown"
    return "yes" if value <= limit else "NO"


def _goal(results, key, name, ratio):
    """The goal of the performance page and whether it is reached; g's is in µs."""
    if published.GOAL[key] is not None:
        return f"≤ {published.GOAL[key]:.2f}: {_verdict(ratio, published.GOAL[key])}"
    cpu = results.figure(key, name, "cpu_us")
    return f"≤ {published.GOAL_CONNECT_US:.0f} µs: {_verdict(cpu, published.GOAL_CONNECT_US)}"


def _rate_goals(results, family, _notes):
    name = results.judged()
    rows = []
    for scenario in family.scenarios:
        key = scenario.key
        if key.endswith("-full"):
            value, goal = results.figure(key, name, "tail"), published.GOAL_TAIL
            title = f"{scenario.title}: 99 % over the median"
        elif key.endswith("-70"):
            value, goal = results.ratio((key, name), (key, "haproxy"), "p99_us"), published.GOAL_P99
            title = f"{scenario.title}: 99 % over haproxy's"
        else:
            continue
        rows.append([title, "–" if value is None else f"{value:.2f}",
                     f"≤ {goal}: {_verdict(value, goal)}"])
    return Table(f"Latency of {name}: goals", ["figure", name, "final goal"], rows)


def _memory_bounds(results, family, _notes):
    name = results.judged()
    rows = []
    for scenario in family.scenarios:
        for figure, title, bound, goal in published.MEMORY:
            value = results.figure(scenario.key, name, figure)
            rows.append([title, "–" if value is None else f"{value:.1f}",
                         "–" if bound is None else f"≤ {bound}: {_verdict(value, bound)}",
                         f"≤ {goal}: {_verdict(value, goal)}"])
    return Table(f"Memory of {name}: bound and goal", ["figure", name, "bound", "final goal"], rows)


#: What the tables of a family are followed by.
GOALS = {"core": _bounds, "rate": _rate_goals, "memory": _memory_bounds}


def _change(results, notes):
    """What this build costs against the older one, in the same run."""
    before, now = results.before(), results.judged()
    rows = []
    for scenario in (one for family in results.families for one in family.scenarios):
        if not any(_tells(results, scenario, name, CPU) for name in (before, now)):
            continue
        sides = [(scenario.key, name) for name in (now, before)]
        ratios = [results.ratio(*sides, figure.name) for figure in (CPU, TPS)]
        rows.append([_row_title(scenario)] + [
            _cell(results, scenario, name, CPU, None, notes) for name in (before, now)
        ] + [f"{ratio:.2f}" if ratio else "–" for ratio in ratios])
    return Table(f"{now} against {before}", ["scenario", before, now, "CPU ratio", "TPS ratio"],
                 rows)


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


def put_into(page, report):
    """The text of `page` with `report` in place of what is between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise StartError(f"the page has no place for the report, between {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{report}\n{END}{after}"


def _markdown_table(table):
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    return "\n".join([f"### {table.title}", ""] + [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines])


def _footer(results, reasons):
    settings = ", ".join(f"{name} {value}" for name, value in results.settings.items())
    versions = "; ".join(f"{name}: {version}" for name, version in results.versions.items())
    numbered = [f"[{number}] {reason}  " for number, reason in enumerate(reasons, 1)]
    return "\n".join([*numbered, f"Settings: {settings}  ", f"Versions: {versions}"])
