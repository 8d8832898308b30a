"""Tests of how the commands end."""

import argparse
import contextlib
import io
import os
import signal
import unittest

import tool
from process import StartError


class RunTest(unittest.TestCase):
    def setUp(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def status(self, work):
        with contextlib.redirect_stderr(io.StringIO()) as self.said:
            return tool.run("benches/x/run", work)

    def _raise(self, error):
        raise error

    def test_what_is_returned_is_the_status(self):
        self.assertEqual(self.status(lambda: 3), 3)

    def test_what_could_not_be_started_is_told(self):
        self.assertEqual(self.status(lambda: self._raise(StartError("no postgres"))), 1)
        self.assertEqual(self.said.getvalue(), "x: no postgres\n")

    def test_a_signal_to_end_is_an_interrupt(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            self.assertEqual(self.status(lambda number=number: os.kill(os.getpid(), number)), 130)


class ParserTest(unittest.TestCase):
    def test_wrong_usage_is_64(self):
        parser = tool.Parser(prog="benches/x/run")
        with contextlib.redirect_stderr(io.StringIO()) as said, self.assertRaises(SystemExit) as ended:
            parser.refuse_unknown("--only", ["b"], ["a"])

        self.assertEqual(ended.exception.code, 64)
        self.assertIn("x: --only: no such name: b (known: a)", said.getvalue())

    def test_numbers_are_above_0(self):
        self.assertEqual(tool.positive("7"), 7)
        for text in ("0", "-1", "x"):
            self.assertRaises(argparse.ArgumentTypeError, tool.positive, text)

    def test_words_are_trimmed(self):
        self.assertEqual(tool.words(" a, b,"), ["a", "b"])


if __name__ == "__main__":
    unittest.main()
