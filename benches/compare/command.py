"""The command: arguments → servers and targets → rounds → report."""

import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import certificates
import families
import install
import null_server
import report
import scenarios
import tool
from cluster import POOL_SIZE, Cluster
from measure import Failure, MeasureError
from process import StartError, ordinary_user, temporary_folder
from results import BEFORE, NotApplicable, Results, as_json, from_json, joined
from targets import REUSING, Direct, Haproxy, Pgbouncer, Pgweir, Surroundings, open_files

PROG = "benches/compare/run"
ROOT = Path(__file__).resolve().parents[2]
KINDS = ("direct", "haproxy", "pgbouncer", "pgweir")
#: 250 clients of scenario e, each with a server, and a pool besides.
CONNECTIONS = 400


@dataclass
class Bench:
    """What loads need."""

    pgbench: Path
    #: pgweir-load.
    load: Path
    #: A Python with psycopg2 and asyncpg.
    python: Path
    folder: Path
    jobs: int
    results: Results

    def saturation(self, key):
        """The rate that haproxy, or else whoever was asked first, bore in that scenario of this run."""
        for name in ("haproxy", *self.results.versions):
            rate = self.results.figure(key, name, "tps")
            if rate is not None:
                return rate
        raise MeasureError(f"nobody has shown what rate is borne ({key})")


def main():
    """Returns the exit status: 0 figures everywhere, 1 something failed, 64 usage."""
    options = _parse_arguments()
    return tool.run(PROG, lambda: _run(options))


def _run(options):
    if options.setup:
        install.install(install.missing_packages())
    drawing = install.python_that_draws() if options.plots else None
    if options.source:
        results = joined([from_json(source.read_text(), options.families)
                          for source in options.source])
    else:
        results = _compare(options)
    _publish(results, options, drawing)
    return 1 if _any_failure(results) else 0


def _parse_arguments():
    parser = tool.Parser(prog=PROG, description=(
        "Runs loads through pgweir, haproxy and PgBouncer in front of a throwaway PostgreSQL and of "
        "a server that answers at once, in rounds, and prints each proxy's own CPU time per "
        "transaction, latencies and memory."))
    parser.add_argument("--setup", action="store_true",
                        help="first install what is missing (root, apt-get)")
    parser.add_argument("--rounds", type=tool.positive, default=3)
    parser.add_argument("--seconds", type=tool.positive, default=4,
                        help="measured seconds per run; some scenarios take a part of them")
    parser.add_argument("--scale", type=tool.positive, default=10, help="pgbench's scale")
    parser.add_argument("--jobs", type=tool.positive, default=1, help="pgbench's threads")
    parser.add_argument("--only", type=tool.words, default=[], metavar="a,b,memory",
                        help="scenarios or families of them")
    parser.add_argument("--proxies", type=tool.words, default=[], metavar="pgweir,haproxy",
                        help=f"targets to run, of {', '.join(KINDS)}")
    parser.add_argument("--pgweir-bin", type=Path, default=ROOT / "target/profiled/release/pgweir",
                        metavar="PATH")
    parser.add_argument("--load-bin", type=_path, metavar="PATH",
                        help="pgweir-load, if it is built; otherwise cargo builds it")
    parser.add_argument("--python", type=Path, default=ROOT / ".venv/bin/python", metavar="PATH",
                        help="one with psycopg2 and asyncpg, for the applications")
    parser.add_argument("--before", type=Path, metavar="PATH",
                        help="another build of pgweir, to say what a change costs")
    parser.add_argument("--reuse", action="store_true",
                        help="pgweir with reuse_unnamed as well, by each plan_cache_mode")
    parser.add_argument("--pgweir-workers", type=_workers, default=[1], metavar="1,2")
    parser.add_argument("--memory-clients", type=tool.positive, default=2000, metavar="N")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--page", type=Path, metavar="FILE",
                        help=f"put the report into a page, between {report.BEGIN} and {report.END}")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw, as SVG")
    parser.add_argument("--from", type=Path, dest="source", metavar="FILE", nargs="+",
                        help="run nothing: tell of earlier runs, each of a part, from their --json")
    options = parser.parse_args()
    _raise_open_files()
    known = families.families(options.memory_clients, families.idle_clients(open_files()))
    parser.refuse_unknown("--only", options.only, scenarios.names(known))
    parser.refuse_unknown("--proxies", options.proxies, KINDS)
    options.families = scenarios.chosen(known, options.only)
    return options


def _path(text):
    return Path(text).resolve()


def _workers(text):
    return [tool.positive(word) for word in tool.words(text)]


def _raise_open_files():
    """Thousands of clients, and as many sockets in a proxy, which inherits the limit."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _compare(options):
    """Starts the servers, runs everything asked for, and ends everything."""
    with ExitStack() as cleanup:
        user = ordinary_user()
        folder = temporary_folder(user)
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        load = options.load_bin or null_server.build()
        certificate = certificates.make(folder, user)
        cluster = Cluster(folder, user, CONNECTIONS, certificate)
        cleanup.callback(cluster.stop)
        tool.say(f"starting PostgreSQL, scale {options.scale}")
        cluster.start(options.scale)
        null = null_server.NullServer(load, folder)
        cleanup.callback(null.stop)
        null.start()
        around = Surroundings(cluster, {"postgres": cluster, "null": null}, certificate, folder, user)
        results = Results(_settings(options), {}, options.families)
        targets = _targets(options, around, results)
        results.versions.update({target.name: target.version() for target in targets})
        bench = Bench(cluster.bin / "pgbench", load, options.python, folder, options.jobs, results)
        for family in options.families:
            _run_family(options, bench, family, targets, results)
        return results


def _settings(options):
    return {"rounds": options.rounds, "seconds": options.seconds, "scale": options.scale,
            "pgbench threads": options.jobs, "pool size": POOL_SIZE, "open files": open_files(),
            "cores": os.cpu_count(), "kernel": ".".join(os.uname().release.split(".")[:2])}


def _targets(options, around, results):
    """The targets asked for; pgweir is left out, with a note, if it is not built."""
    kinds = options.proxies or KINDS
    targets = [kind(around) for kind in (Direct, Haproxy, Pgbouncer) if kind.family in kinds]
    if "pgweir" not in kinds:
        return targets
    if options.before:
        if not options.before.exists():
            raise StartError(f"--before: no binary at {options.before}")
        targets.append(Pgweir(around, options.before, min(options.pgweir_workers), family=BEFORE))
    if options.pgweir_bin.exists():
        targets += [Pgweir(around, options.pgweir_bin, workers)
                    for workers in sorted(options.pgweir_workers)]
        return targets + [
            Pgweir(around, options.pgweir_bin, min(options.pgweir_workers), name, **settings)
            for name, settings in REUSING.items() if options.reuse]
    missing = f"pgweir: no binary at {options.pgweir_bin} (make release)"
    if "pgweir" in options.proxies:
        raise StartError(missing)
    results.notes.append(missing)
    return targets


def _run_family(options, bench, family, targets, results):
    """Series by series: everybody once a round, in an order of its own. What drifts over time drifts for all
    alike, and nobody always follows the same one."""
    for key, series in by_series(family.scenarios).items():
        pairs = [(scenario, target) for scenario in series for target in asked(scenario, targets)]
        for scenario, target in pairs:
            reason = target.cannot(scenario)
            results.outcomes[scenario.key, target.name] = NotApplicable(reason) if reason else []
        for number in range(1, options.rounds + 1):
            for scenario, target in shuffled(pairs, key, number):
                rounds = results.outcomes[scenario.key, target.name]
                if isinstance(rounds, list) and not _has_failed(rounds):
                    rounds.append(_run_once(options, bench, scenario, target))
                    tool.say(f"{scenario.key} {scenario.title}, round {number}/{options.rounds}, "
                             f"{target.name}: {_told(family, rounds[-1])}")


def asked(scenario, targets):
    """The targets that the scenario is for; of each kind but one, if it brings its own number of workers."""
    kinds = {}
    for target in targets:
        if not scenario.only or target.family in scenario.only:
            kinds.setdefault(target.family, []).append(target)
    return [target for same in kinds.values() for target in (same[:1] if scenario.setup.workers else same)]


def by_series(some):
    """Scenarios by what they are run together as: their series, or each alone."""
    groups = {}
    for scenario in some:
        groups.setdefault(scenario.series or scenario.key, []).append(scenario)
    return groups


def shuffled(pairs, key, number):
    """`pairs` in the order of this series' round, which is the same each time."""
    return random.Random(f"{key}{number}").sample(pairs, len(pairs))


def _has_failed(rounds):
    return any(isinstance(outcome, Failure) for outcome in rounds)


def _run_once(options, bench, scenario, target):
    """One run against a target that is started for it."""
    try:
        target.start(scenario.setup)
        return scenario.load.run(bench, target, scenario.setup, options.seconds * scenario.share)
    except (MeasureError, StartError, OSError) as error:
        return Failure(str(error))
    finally:
        target.stop()


def _told(family, outcome):
    if isinstance(outcome, Failure):
        return f"failed: {outcome.reason}"
    told = {figure.name: figure.text(outcome[figure.name])
            for figure in family.figures if figure.name in outcome}
    return ", ".join(f"{name} {value}" for name, value in told.items())


def _any_failure(results):
    return any(isinstance(outcome, list) and _has_failed(outcome)
               for outcome in results.outcomes.values())


def _publish(results, options, drawing):
    print(report.plain(results), end="")
    if options.markdown:
        options.markdown.write_text(report.markdown(results))
    if options.page:
        options.page.write_text(report.put_into(options.page.read_text(), report.markdown(results)))
    if options.json:
        options.json.write_text(as_json(results))
    if options.plots:
        _draw(results, options.plots, drawing)


def _draw(results, folder, python):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(as_json(results))
        file.flush()
        subprocess.run([python, Path(__file__).with_name("plots.py"), file.name, folder], check=True,
                       stdout=sys.stderr)
