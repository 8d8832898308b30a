"""The command: two builds → one conversation each, under callgrind → instructions per exchange.

A commit that has a reason to cost more says so in its message, in a line of its own:

    Costs: pipeline 1.10 each Sync is settled apart
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches/compare"))

from process import Service, StartError, free_port, temporary_folder  # noqa: E402

#: More than this times the instructions of before is too many.
BOUND = 1.03
#: What is said → (how often in the shorter run, and in the longer one). Their difference has no start in it.
TOPICS = {
    "simple": (200, 1200),
    "extended": (200, 1200),
    "prepared": (200, 1200),
    "transaction": (100, 500),
    "pipeline": (100, 500),
    "connect": (20, 120),
}
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

TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


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
    """Returns the exit status: 0 within the bound, 1 above it or not run, 64 usage."""
    options = _parse_arguments()
    folder = temporary_folder(None)
    try:
        before = options.before_bin or build_of(options.before, folder)
        now = options.now_bin or build(ROOT)
        said = _git("log", "-1", "--format=%(trailers:key=Costs,valueonly)")
        bounds = {topic: options.bound for topic in TOPICS} | allowed(said)
        load = build_load()
        counted = [count(folder, load, topic, bounds[topic], before, now) for topic in options.topics]
    except (StartError, subprocess.CalledProcessError, OSError) as error:
        print(f"guard: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=False)
    print(report(counted), end="")
    return int(any(one.is_too_many for one in counted))


def _parse_arguments():
    parser = argparse.ArgumentParser(prog="benches/guard/run", description=(
        "Holds the same conversation with two builds of pgweir in front of a server that answers at "
        "once, counts their instructions by callgrind, and fails if this one needs more."))
    parser.add_argument("--before", default="HEAD^", metavar="REVISION",
                        help="the commit that is compared with (HEAD^)")
    parser.add_argument("--before-bin", type=Path, metavar="PATH", help="its binary, if it is built")
    parser.add_argument("--now-bin", type=Path, metavar="PATH", help="this one's")
    parser.add_argument("--bound", type=float, default=BOUND,
                        help=f"the largest ratio that passes ({BOUND})")
    parser.add_argument("--topics", type=lambda text: text.split(","), default=list(TOPICS),
                        metavar="simple,connect", help=f"of {', '.join(TOPICS)}")
    options = parser.parse_args()
    for topic in options.topics:
        if topic not in TOPICS:
            parser.error(f"--topics: no such topic: {topic}")
    return options


def build_of(revision, folder):
    """Builds pgweir as of `revision`; the path of the binary."""
    tree = folder / "before"
    try:
        _git("worktree", "add", "--quiet", "--detach", tree, revision)
    except subprocess.CalledProcessError as error:
        raise StartError(f"no commit {revision} to compare with (a clone of depth 1 has none): "
                         f"{error.stderr.strip()}") from error
    return build(tree)


def build(tree):
    """Builds the release of pgweir in `tree`; the path of a copy, for the next build takes its place."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    subprocess.run(["cargo", "build", "--release", "--quiet", "--bin", "pgweir"], cwd=tree, check=True,
                   env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    copy = target / "release" / f"pgweir-{tree.name}"
    shutil.copy2(target / "release" / "pgweir", copy)
    return copy


def build_load():
    """Builds the load and its null server; the path of the binary."""
    target = ROOT / "target/load"
    subprocess.run(["cargo", "build", "--release", "--quiet", "--manifest-path",
                    ROOT / "benches/load/Cargo.toml", "--target-dir", target], check=True)
    return target / "release/pgweir-load"


def allowed(trailers):
    """The bounds that a commit's message sets, by topic: lines of topic, ratio and reason.

    StartError for a line that says something else.
    """
    bounds = {}
    for line in filter(None, map(str.strip, trailers.splitlines())):
        topic, ratio, reason = (line.split(maxsplit=2) + ["", "", ""])[:3]
        if topic not in TOPICS or not re.fullmatch(r"\d+\.\d+", ratio) or not reason:
            raise StartError(f"Costs: {line}: a topic, a ratio and a reason are wanted, "
                             "as in 'Costs: pipeline 1.10 each Sync is settled apart'")
        bounds[topic] = float(ratio)
    return bounds


def count(folder, load, topic, bound, before, now):
    """Counts one topic with both builds."""
    before, now = (_instructions(Path(tempfile.mkdtemp(dir=folder)), load, topic, binary)
                   for binary in (before, now))
    counted = Counted(topic, before, now, bound)
    print(f"{topic}: {counted.before:.0f} → {counted.now:.0f}", file=sys.stderr, flush=True)
    return counted


def _instructions(folder, load, topic, binary):
    short, long = TOPICS[topic]
    server_port, port = free_port(), free_port()
    server = Service("null-server", [load, "null-server", "--listen", f"127.0.0.1:{server_port}"],
                     server_port, folder)
    users_file = folder / "users.txt"
    users_file.write_text(f'"{USER}" "none"\n')
    config = folder / "pgweir.toml"
    config.write_text(CONFIG.format(port=port, http_port=free_port(), users_file=users_file,
                                    server_port=server_port, user=USER))
    profile = folder / "callgrind"
    argv = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", binary, "serve",
            "--config", config]
    pgweir = Service("pgweir", argv, port, folder)

    def hold(times):
        subprocess.run([load, "conversation", "--address", f"127.0.0.1:{port}", "--topic", topic,
                        "--times", str(times)], check=True, timeout=300)

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
            if total:
                return int(total[1])
        time.sleep(0.05)
    raise StartError("callgrind wrote no profile in 30 s")


def _control(wish, pid):
    subprocess.run(["callgrind_control", wish, str(pid)], check=True, capture_output=True, timeout=60)


def _git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True,
                          text=True).stdout


def report(counted):
    """A table in markdown."""
    lines = ["| topic | before | now | ratio | at most |", "| --- | --- | --- | --- | --- |"]
    for one in counted:
        verdict = "NO" if one.is_too_many else "yes"
        lines.append(f"| {one.topic} | {one.before:.0f} | {one.now:.0f} | {one.ratio:.3f} | "
                     f"{one.bound:.2f}: {verdict} |")
    return "\n".join(lines) + "\n"
