"""What the commands of `benches` share: arguments, signals, and how they end."""

import argparse
import signal
import subprocess
import sys

from process import StartError


class Parser(argparse.ArgumentParser):
    """Exits with 64 (EX_USAGE), as pgweir does."""

    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(64, f"{name_of(self.prog)}: {message}\n")

    def refuse_unknown(self, flag, given, known):
        for word in given:
            if word not in known:
                self.error(f"{flag}: no such name: {word} (known: {', '.join(known)})")


def words(text):
    """The words of `a,b`."""
    return [word.strip() for word in text.split(",") if word.strip()]


def positive(text):
    """A whole number above 0."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def run(prog, work):
    """The exit status of `work()`, or 1 if something failed, 130 if it was interrupted.

    A signal to end becomes what Ctrl-C is, so that `work` ends everything that it started.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return work()
    except (StartError, subprocess.SubprocessError, OSError) as error:
        print(f"{name_of(prog)}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name_of(prog)}: interrupted; everything started was ended", file=sys.stderr)
        return 130


def name_of(prog):
    """compare of benches/compare/run."""
    return prog.split("/")[-2]


def _interrupt(_number, _frame):
    raise KeyboardInterrupt


def say(text):
    """Progress goes to standard error; the report alone to standard output."""
    print(text, file=sys.stderr, flush=True)
