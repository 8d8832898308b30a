"""The command: arguments → cluster and proxies → rounds → report."""

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import install
import report
import scenarios
from cluster import Cluster
from measure import WARM_UP_SECONDS, Failure, Run, measure
from memory import measure_memory
from process import StartError, ordinary_user, temporary_folder
from proxies import POOL_SIZE, REUSING, Direct, Haproxy, Pgbouncer, Pgweir

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ("direct", "haproxy", "pgbouncer", "pgweir")
MEMORY = "memory"
#: 300 clients of haproxy's memory run or 250 of scenario e, and every pool beside them.
CONNECTIONS = 600


def main():
    """Returns the exit status: 0 figures everywhere, 1 something failed, 64 usage."""
    options = _parse_arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        if options.setup:
            install.install(install.missing_packages())
        _raise_open_files()
        results = _compare(options)
    except (StartError, subprocess.CalledProcessError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("compare: interrupted; everything started was ended", file=sys.stderr)
        return 130
    _publish(results, options)
    return 1 if _any_failure(results) else 0


def _interrupt(_number, _frame):
    """A signal to end becomes what Ctrl-C is, so that everything started is ended."""
    raise KeyboardInterrupt


def _parse_arguments():
    parser = _Parser(prog="benches/compare/run", description=(
        "Runs pgbench through pgweir, haproxy and PgBouncer in front of a throwaway PostgreSQL, "
        "in rounds, and prints each proxy's own CPU time per transaction."))
    parser.add_argument("--setup", action="store_true",
                        help="first install what is missing (root, apt-get)")
    parser.add_argument("--rounds", type=_positive, default=3)
    parser.add_argument("--seconds", type=_positive, default=8,
                        help="measured seconds per run, after one of warm-up")
    parser.add_argument("--scale", type=_positive, default=10, help="pgbench's scale")
    parser.add_argument("--jobs", type=_positive, default=1, help="pgbench's threads")
    parser.add_argument("--only", type=_words, default=[], metavar="a,b,memory",
                        help="scenarios to run: a to i, and memory")
    parser.add_argument("--proxies", type=_words, default=[], metavar="pgweir,haproxy",
                        help=f"targets to run, of {', '.join(FAMILIES)}")
    parser.add_argument("--pgweir-bin", type=Path, default=ROOT / "target/release/pgweir",
                        metavar="PATH")
    parser.add_argument("--before", type=Path, metavar="PATH",
                        help="another build of pgweir, to say what a change costs")
    parser.add_argument("--reuse", action="store_true",
                        help="pgweir with reuse_unnamed as well, by each plan_cache_mode")
    parser.add_argument("--pgweir-workers", type=_workers, default=[1], metavar="1,2")
    parser.add_argument("--memory-clients", type=_positive, default=2000, metavar="N")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    keys = [scenario.key for scenario in scenarios.ALL] + [MEMORY]
    parser.refuse_unknown("--only", options.only, keys)
    parser.refuse_unknown("--proxies", options.proxies, FAMILIES)
    return options


class _Parser(argparse.ArgumentParser):
    """Exits with 64 (EX_USAGE), as pgweir does."""

    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(64, f"compare: {message}\n")

    def refuse_unknown(self, flag, given, known):
        for word in given:
            if word not in known:
                self.error(f"{flag}: no such name: {word} (known: {', '.join(known)})")


def _words(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def _positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _workers(text):
    return [_positive(word) for word in _words(text)]


def _raise_open_files():
    """2000 clients, and as many sockets in a proxy, which inherits the limit."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _compare(options):
    """Starts everything, runs everything asked for, and ends everything."""
    with ExitStack() as cleanup:
        user = ordinary_user()
        folder = temporary_folder(user)
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        cluster = Cluster(folder, user, CONNECTIONS)
        cleanup.callback(cluster.stop)
        _say(f"starting PostgreSQL, scale {options.scale}")
        cluster.start(options.scale)
        results = report.Results(_settings(options), {}, _chosen_scenarios(options))
        targets = _targets(options, cluster, folder, user, results)
        results.versions.update({target.name: target.version() for target in targets})
        if results.scenarios:
            _run_rounds(options, cluster, targets, results)
        if not options.only or MEMORY in options.only:
            _run_memory(options, targets, results)
        return results


def _settings(options):
    return {"rounds": options.rounds, "seconds": options.seconds, "scale": options.scale,
            "pgbench threads": options.jobs, "pool size": POOL_SIZE,
            "cores": os.cpu_count(), "host": os.uname().release}


def _chosen_scenarios(options):
    keys = [key for key in options.only if key != MEMORY]
    return [] if options.only and not keys else scenarios.chosen(keys)


def _targets(options, cluster, folder, user, results):
    """The targets asked for; pgweir is left out, with a note, if it is not built."""
    families = options.proxies or FAMILIES
    targets = [make(*arguments) for family, make, arguments in (
        ("direct", Direct, (cluster,)),
        ("haproxy", Haproxy, (cluster, folder, user)),
        ("pgbouncer", Pgbouncer, (cluster, folder, user))) if family in families]
    if "pgweir" not in families:
        return targets
    if options.before:
        if not options.before.exists():
            raise StartError(f"--before: no binary at {options.before}")
        targets.append(Pgweir(cluster, folder, options.before, min(options.pgweir_workers),
                              family=report.BEFORE))
    if options.pgweir_bin.exists():
        targets += [Pgweir(cluster, folder, options.pgweir_bin, workers)
                    for workers in sorted(options.pgweir_workers)]
        return targets + [
            Pgweir(cluster, folder, options.pgweir_bin, min(options.pgweir_workers), name, **settings)
            for name, settings in REUSING.items() if options.reuse]
    missing = f"pgweir: no binary at {options.pgweir_bin} (cargo build --release)"
    if "pgweir" in options.proxies:
        raise StartError(missing)
    results.notes.append(missing)
    return targets


def _run_rounds(options, cluster, targets, results):
    """Everybody once a round, in an order of its own: what drifts over time drifts for all alike, and nobody
    always follows the same one."""
    with ExitStack() as running:
        broken = _start_all(targets, running)
        for scenario in results.scenarios:
            _mark_unrunnable(scenario, targets, broken, results)
            for number in range(1, options.rounds + 1):
                for target in shuffled(targets, scenario.key, number):
                    rounds = results.outcomes[scenario.key, target.name]
                    if isinstance(rounds, list) and not _has_failed(rounds):
                        outcome = _run_once(options, cluster, scenario, target)
                        rounds.append(outcome)
                        _say_outcome(scenario, number, options.rounds, target, outcome)


def shuffled(targets, key, number):
    """`targets` in the order of this scenario's round, which is the same each time."""
    return random.Random(f"{key}{number}").sample(targets, len(targets))


def _start_all(targets, running):
    """Starts every target; those that did not start, with their Failure."""
    broken = {}
    for target in targets:
        running.callback(target.stop)
        try:
            target.start()
        except (StartError, OSError) as error:
            _say(str(error))
            broken[target.name] = Failure(str(error))
    return broken


def _mark_unrunnable(scenario, targets, broken, results):
    """Gives every target its list of rounds, or the reason why it will have none."""
    for target in targets:
        reason = target.cannot(scenario)
        if target.name in broken:
            outcome = [broken[target.name]]
        elif reason is not None:
            outcome = report.NotApplicable(reason)
        else:
            outcome = []
        results.outcomes[scenario.key, target.name] = outcome


def _has_failed(rounds):
    return any(isinstance(outcome, Failure) for outcome in rounds)


def _run_once(options, cluster, scenario, target):
    script = cluster.folder / f"{scenario.key}.sql"
    if scenario.script:
        script.write_text(scenario.script)
    seconds = options.seconds + WARM_UP_SECONDS
    command = scenario.command(cluster.bin / "pgbench", target, seconds, script, options.jobs)
    environment = cluster.environment(target.client_user)
    return measure(command, environment, target.service.pid, seconds)


def _say_outcome(scenario, number, rounds, target, outcome):
    head = f"{scenario.key} {scenario.title}, round {number}/{rounds}, {target.name}: "
    if not isinstance(outcome, Run):
        _say(head + f"failed: {outcome.reason}")
    elif target.name == "direct":
        _say(head + f"{outcome.tps:.0f} tps")
    else:
        _say(head + f"{outcome.tps:.0f} tps, {outcome.cpu_us:.1f} µs of CPU per transaction")


def _run_memory(options, targets, results):
    """Weighs each proxy in a process of its own, started afresh."""
    for target in targets:
        if target.name == "direct":
            continue
        _say(f"memory: {target.name}")
        results.memory[target.name] = measure_memory(target, options.memory_clients)
        if options.memory_clients > target.memory_clients_max:
            results.notes.append(
                f"memory: {target.name} with {target.memory_clients_max} clients only: "
                "each has a PostgreSQL server of its own")


def _any_failure(results):
    rounds = [run for runs in results.outcomes.values() if isinstance(runs, list) for run in runs]
    return any(isinstance(outcome, Failure) for outcome in [*rounds, *results.memory.values()])


def _publish(results, options):
    print(report.plain(results), end="")
    if options.markdown:
        options.markdown.write_text(report.markdown(results))
    if options.json:
        options.json.write_text(report.as_json(results))


def _say(text):
    """Progress goes to standard error; the report alone to standard output."""
    print(text, file=sys.stderr, flush=True)
