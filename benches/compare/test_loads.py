"""Tests of what loads are told, and of what is made of what they say."""

import ast
import json
import os
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

from command import Bench
from families import CORE, TRANSACTIONS, seeds_family
from loads import PROGRAM, Application, Closed, Open, Pgbench, percentiles
from measure import Cost, Failure, Marks, MeasureError, Progress, Run, per_transaction, watch
from results import Results
from targets import Setup


def bench(folder="/nowhere", outcomes=None, names=("haproxy", "pgweir-1")):
    results = Results({}, dict.fromkeys(names, "1"), [], outcomes or {})
    return Bench(Path("pgbench"), Path("load"), Path("python"), Path(folder), 1, results)


def said(**figures):
    return json.dumps({"transactions": 100, "per_second": 50.0, **figures})


class MarksTest(unittest.TestCase):
    def test_what_is_between_the_marks_is_the_proxys_cost(self):
        marks = Marks(os.getpid())
        marks.hear("begin\n")
        before = os.times()
        while sum(os.times()[:2]) - sum(before[:2]) < 0.1 and sum(range(10000)):
            pass
        marks.hear("end\n")

        run = marks.run(said(p50_us=7.0))

        self.assertGreater(run["cpu_us"], 0.08e6 / 100)
        self.assertGreater(run["memory_mb"], 1)
        self.assertEqual(run["p50_us"], 7.0)
        self.assertNotIn("transactions", run)

    def test_a_direct_connection_has_no_cost(self):
        marks = Marks(None)
        marks.hear("begin")
        marks.hear("end")

        self.assertEqual(marks.run(said()), Run(per_second=50.0))

    def test_a_load_that_never_began_is_an_error(self):
        self.assertRaises(MeasureError, Marks(None).run, said())

    def test_cost_is_per_transaction(self):
        self.assertEqual(per_transaction(Cost(1.0, 10), Cost(1.5, 30), 1000),
                         {"cpu_us": 500.0, "switches": 0.02})


class WatchTest(unittest.TestCase):
    def test_what_a_load_complained_of_last_is_the_reason(self):
        script = "import sys; print('first\\nsecond', file=sys.stderr); sys.exit(3)"

        with self.assertRaisesRegex(MeasureError, "^second$"):
            watch(["python3", "-c", script], None, Marks(None), 1)

    def test_failed_transactions_are_an_error(self):
        progress = Progress(None)

        with self.assertRaisesRegex(MeasureError, "3 failed"):
            progress.run("number of failed transactions: 3 (0.1%)\n")


class OpenTest(unittest.TestCase):
    OPEN = Open(64, share=0.7, saturated="full")

    def test_the_rate_is_a_share_of_haproxys(self):
        found = bench(outcomes={("full", "haproxy"): [Run(tps=1000.0)],
                                ("full", "pgweir-1"): [Run(tps=9.0)]})

        self.assertEqual(self.OPEN.words(found)[-2:], ["--rate", "700"])
        self.assertEqual(self.OPEN.words(found)[0], "open")

    def test_without_haproxy_it_is_a_share_of_the_first_that_was_asked(self):
        found = bench(outcomes={("full", "haproxy"): [Failure("broken")],
                                ("full", "pgweir-1"): [Run(tps=100.0)]})

        self.assertEqual(self.OPEN.words(found)[-1], "70")

    def test_a_share_of_nothing_is_an_error(self):
        self.assertRaises(MeasureError, self.OPEN.words, bench())


class ClosedTest(unittest.TestCase):
    def test_idle_clients_count_as_connections(self):
        self.assertEqual(Closed(8, idle=1000).connections, 1008)

    def test_it_is_told_who_else_is_there(self):
        words = Closed(8, idle=5, slow_reader=9, prepared=True).words(bench())

        self.assertEqual(words[0], "closed")
        self.assertIn("--prepared", words)
        self.assertEqual(words[words.index("--idle") + 1], 5)
        self.assertEqual(words[words.index("--slow-reader") + 1], 9)


class ApplicationTest(unittest.TestCase):
    def test_the_program_knows_every_topic(self):
        # It cannot be imported here: its drivers are another Python's.
        tables = [node.value for node in ast.parse(PROGRAM.read_text()).body
                  if isinstance(node, ast.Assign) and node.targets[0].id == "TOPICS"]
        known = {key.value for key in tables[0].keys}

        self.assertEqual({scenario.load.topic for scenario in seeds_family().scenarios}, known)

    def test_without_its_drivers_it_says_where_they_are_from(self):
        with self.assertRaisesRegex(MeasureError, "tests/setup.sh"):
            Application("connect", 1).run(bench(), None, Setup(), 1)


class PgbenchTest(unittest.TestCase):
    def test_scripts_are_weighed(self):
        with tempfile.TemporaryDirectory() as folder:
            command = TRANSACTIONS.scenarios[0].load.command(bench(), 5432, 3, Path(folder))
            sources = [word for word in map(str, command) if "@" in word]

            self.assertEqual([word.rpartition("@")[2] for word in sources], ["19", "1"])
            self.assertIn("sum(abalance)", Path(sources[1].rpartition("@")[0]).read_text())
            self.assertIn(f"--log-prefix={folder}/log", command)

    def test_files_are_gone_after_a_run_that_failed(self):
        target = SimpleNamespace(port=1, pid=None, client=lambda _setup: "x")
        with tempfile.TemporaryDirectory() as folder:
            broken = bench(folder)
            broken.pgbench = Path("/bin/false")

            with self.assertRaisesRegex(MeasureError, "false ended with status 1"):
                Pgbench(1, (), (("select 1;\n", 1),)).run(broken, target, Setup(), 1)

            self.assertEqual(list(Path(folder).iterdir()), [])

    def test_latencies_of_the_other_script_do_not_count(self):
        with tempfile.TemporaryDirectory() as folder:
            light = [f"0 {n} {n} 0 1700000000 0\n" for n in range(1, 101)]
            Path(folder, "log.77").write_text("".join([*light, "0 101 999999 1 1700000000 0\n"]))

            latencies = TRANSACTIONS.scenarios[0].load.latencies(Path(folder))

        self.assertEqual(latencies["p50_us"], 50.5)
        self.assertLess(latencies["p99_us"], 101)

    def test_nothing_timed_is_an_error(self):
        self.assertRaises(MeasureError, percentiles, [1])

    def test_core_scenarios_say_where_they_go(self):
        command = CORE.scenarios[0].load.command(bench(), 5432, 3, Path("log"))

        self.assertEqual(command[-4:], ["-h", "127.0.0.1", "-p", 5432])


if __name__ == "__main__":
    unittest.main()
