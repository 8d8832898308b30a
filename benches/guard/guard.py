"""The command: two builds → the same conversation with each, under callgrind → instructions per exchange.

A commit that has a reason to cost more says so in its message, in a line of its own:

    Costs: pipeline 1.10 each Sync is settled apart
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches/compare"))

import null_server  # noqa: E402
import tool  # noqa: E402
from process import Service, StartError, free_port, tail, temporary_folder  # noqa: E402

PROG = "benches/guard/run"

#: More than this times the instructions of before is too many.
BOUND = 1.03
#: What is said → (how often in the shorter run, and in the longer one). Their difference has no start in it.
TOPICS = {
    "simple": (200, 1200),
    "extended": (200, 1200),
    "prepared": (200, 1200),
    "transaction": (100, 500),
    "pipeline": (100, 500),
    "connect": (20, 320),
}
#: What a build is made of.
SOURCES = ("src", "Cargo.toml", "Cargo.lock")
USER = "postgres"

CONFIG = """
[listen]
addresses = ["127.0.0.1:{port}"]

[http]
address = "127.0.0.1:{http_port}"

[log]
level = "warn"

[runtime]
workers = 1

[auth]
method = "trust"
users_file = "{users_file}"

[pool]
pool_mode = "transaction"
size = 4

[domains.{user}]
hosts = ["127.0.0.1:{server_port}"]
user = "{user}"
"""

TOTAL = re.compile(r"^(?:totals|summary): (\d+)\n", re.MULTILINE)


class NothingBefore(Exception):
    """There is no build to compare with, and why."""


@dataclass(frozen=True)
class Counted:
    """Instructions in user space per exchange of one topic."""

    topic: str
    before: float
    now: float
    #: The largest ratio that passes.
    bound: float

    @property
    def ratio(self):
        return self.now / self.before

    @property
    def is_too_many(self):
        return self.ratio > self.bound


def main():
    """Returns the exit status: 0 within the bound or nothing to compare, 1 above it or broken, 64 usage."""
    options = _parse_arguments()
    return tool.run(PROG, lambda: _guard(options))


def _guard(options):
    try:
        with ExitStack() as cleanup:
            counted = _compare(options, cleanup)
    except NothingBefore as reason:
        print(f"guard: nothing to compare with: {reason}")
        return 0
    print(report(counted), end="")
    return int(any(one.is_too_many for one in counted))


def _parse_arguments():
    parser = tool.Parser(prog=PROG, description=(
        "Holds the same conversation with two builds of pgweir in front of a server that answers at "
        "once, counts their instructions by callgrind, and fails if this one needs more."))
    parser.add_argument("--before", metavar="REVISION",
                        help="the commit that is compared with (HEAD^, or HEAD if something is not committed)")
    parser.add_argument("--before-bin", type=_path, metavar="PATH", help="its binary, if it is built")
    parser.add_argument("--now-bin", type=_path, metavar="PATH", help="this one's")
    parser.add_argument("--bound", type=float, default=BOUND,
                        help=f"the largest ratio that passes ({BOUND})")
    parser.add_argument("--topics", type=tool.words, default=list(TOPICS),
                        metavar="simple,connect", help=f"of {', '.join(TOPICS)}")
    options = parser.parse_args()
    parser.refuse_unknown("--topics", options.topics, TOPICS)
    return options


def _path(text):
    return Path(text).resolve()


def _compare(options, cleanup):
    """Builds what is not built, and counts each topic with both."""
    folder = temporary_folder(None)
    cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
    bounds = dict.fromkeys(TOPICS, options.bound)
    before = options.before_bin
    if before is None:
        revision = options.before or ("HEAD" if _differs_from("HEAD") else "HEAD^")
        _check_for(revision)
        bounds |= allowed(_git("log", "--format=%B", f"{revision}..HEAD"))
        before = _build_of(revision, folder, cleanup)
    now = options.now_bin
    if now is None:
        _say("building this tree")
        now = _build(ROOT, ROOT / "target", folder / "pgweir-now")
    load = null_server.build()
    return [count(folder, load, topic, bounds[topic], before, now) for topic in options.topics]


def _differs_from(revision):
    """True if what a build is made of is other than in `revision`."""
    return bool(_git("diff", "--name-only", revision, "--", *SOURCES).strip())


def _check_for(revision):
    """NothingBefore, if `revision` is not there or would give the same build."""
    found = subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"],
                           cwd=ROOT, capture_output=True, text=True)
    if found.returncode != 0:
        raise NothingBefore(f"there is no commit {revision} here "
                            "(a shallow clone gets it by: git fetch --deepen 1)")
    if not _differs_from(revision):
        raise NothingBefore(f"{', '.join(SOURCES)} are what they were in {revision}")


def _build_of(revision, folder, cleanup):
    """Builds pgweir as of `revision`; the path of the binary."""
    tree = folder / "before"
    _git("worktree", "add", "--quiet", "--detach", tree, revision)
    cleanup.callback(subprocess.run, ["git", "worktree", "remove", "--force", tree], cwd=ROOT,
                     check=False)
    _say(f"building {revision}")
    try:
        # Apart from this tree's: cargo tells two trees of one package by nothing but times.
        return _build(tree, ROOT / "target/guard-before", folder / "pgweir-before")
    except subprocess.CalledProcessError as error:
        raise NothingBefore(f"{revision} does not build") from error


def _build(tree, target, copy):
    """Builds the release of pgweir in `tree`, and copies it to `copy`, which is returned."""
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked", "--bin", "pgweir"], cwd=tree,
                   check=True, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    shutil.copy2(target / "release/pgweir", copy)
    return copy


def allowed(messages):
    """The bounds that commits' messages set, by topic: lines of topic, ratio and reason.

    StartError for a line that says something else.
    """
    bounds = {}
    for line in re.findall(r"^Costs:(.*)$", messages, re.MULTILINE):
        topic, ratio, reason = (line.split(maxsplit=2) + ["", "", ""])[:3]
        if topic not in TOPICS or not re.fullmatch(r"\d+\.\d+", ratio) or not reason:
            raise StartError(f"Costs:{line}: a topic, a ratio and a reason are wanted, "
                             "as in 'Costs: pipeline 1.10 each Sync is settled apart'")
        bounds[topic] = max(float(ratio), bounds.get(topic, 0.0))
    return bounds


def count(folder, load, topic, bound, before, now):
    """Counts one topic with both builds; once more if it is too many, for now and then it is chance."""
    counted = _count_once(folder, load, topic, bound, before, now)
    if counted.is_too_many:
        again = _count_once(folder, load, topic, bound, before, now)
        counted = min(counted, again, key=lambda one: one.ratio)
    _say(f"{topic}: {counted.before:.0f} → {counted.now:.0f}")
    return counted


def _count_once(folder, load, topic, bound, before, now):
    try:
        first = _instructions(folder, load, topic, before)
    except StartError as error:
        raise NothingBefore(f"it does not run as this one does: {error}") from error
    return Counted(topic, first, _instructions(folder, load, topic, now), bound)


def _instructions(folder, load, topic, binary):
    """Instructions per exchange of one build."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    short, long = TOPICS[topic]
    server, port = null_server.NullServer(load, folder), free_port()
    users_file = folder / "users.txt"
    users_file.write_text(f'"{USER}" "none"\n')
    config = folder / "pgweir.toml"
    config.write_text(CONFIG.format(port=port, http_port=free_port(), users_file=users_file,
                                    server_port=server.port, user=USER))
    profile = folder / "callgrind"
    argv = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", binary, "serve",
            "--config", config]
    pgweir = Service("pgweir", argv, port, folder)

    def hold(times):
        argv = [load, "conversation", "--address", f"127.0.0.1:{port}", "--topic", topic,
                "--times", str(times)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise StartError(f"{topic}: {done.stderr.strip()}; pgweir says: {tail(pgweir.log)}")

    def counted(times):
        _control("--zero", pgweir.pid)
        hold(times)
        known = set(folder.glob(f"{profile.name}.*"))
        _control("--dump", pgweir.pid)
        return _total_of_next(folder, profile.name, known)

    try:
        server.start()
        pgweir.start(seconds_max=60)
        hold(short)
        return (counted(long) - counted(short)) / (long - short)
    finally:
        pgweir.stop()
        server.stop()


def _total_of_next(folder, name, known):
    """The total of the profile that is being written. It is there some time after it was wished for."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in set(folder.glob(f"{name}.*")) - known:
            total = TOTAL.search(path.read_text())
            if total and int(total[1]) > 0:
                return int(total[1])
        time.sleep(0.05)
    raise StartError("callgrind wrote no profile in 30 s")


def _control(wish, pid):
    done = subprocess.run(["callgrind_control", wish, str(pid)], capture_output=True, text=True,
                          timeout=60)
    # It says nothing, and succeeds, where there is no such process.
    if done.returncode != 0 or str(pid) not in done.stdout:
        raise StartError(f"callgrind_control {wish}: {done.stderr.strip() or done.stdout.strip()}")


def _git(*arguments):
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise StartError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def _say(text):
    tool.say(f"guard: {text}")


def report(counted):
    """A table in markdown."""
    lines = ["| topic | before | now | ratio | at most |", "| --- | --- | --- | --- | --- |"]
    for one in counted:
        verdict = "NO" if one.is_too_many else "yes"
        lines.append(f"| {one.topic} | {one.before:.0f} | {one.now:.0f} | {one.ratio:.3f} | "
                     f"{one.bound:.2f}: {verdict} |")
    return "\n".join(lines) + "\n"
