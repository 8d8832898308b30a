"""Tests of what turns measurements into figures and verdicts."""

import os
import unittest

import published
from command import shuffled
from families import CORE, families
from measure import Cost, Failure, MeasureError, Run, Window, cost_of, medians
from process import StartError
from report import BEGIN, END, markdown, plain, put_into
from results import NotApplicable, Results, as_json, from_json, joined
from scenarios import FIRST, Family, Figure, Scenario, chosen

FAMILIES = families(memory_clients=2000, idle_clients=9000)


def results_of(outcomes, names=("direct", "haproxy", "pgbouncer", "pgweir-1")):
    keys = {key for key, _name in outcomes}
    versions = {name: "1" for name in names}
    return Results({"rounds": 1}, versions, chosen(FAMILIES, keys), outcomes)


def runs(cpu_us, tps=1000.0):
    return [Run(tps=tps, cpu_us=cpu_us, switches=0.0)]


class WindowTest(unittest.TestCase):
    def test_first_interval_is_warm_up_and_not_counted(self):
        window = Window()
        window.add(100.0, 5.0, Cost(10.0, 7))
        window.add(101.0, 1000.0, Cost(10.5, 107))
        window.add(103.0, 500.0, Cost(11.0, 207))

        run = window.run()

        self.assertEqual(run, Run(tps=2000 / 3, cpu_us=500.0, switches=0.1))

    def test_window_without_transactions_is_an_error(self):
        window = Window()
        window.add(100.0, 5.0, Cost(1.0, 0))

        self.assertRaises(MeasureError, window.run)

    def test_cost_of_this_process_grows_with_work(self):
        before = cost_of(os.getpid())
        while os.times().user - before.cpu_seconds < 0.1 and sum(range(10000)):
            pass

        self.assertGreater(cost_of(os.getpid()).cpu_seconds, before.cpu_seconds)

    def test_cost_of_a_process_that_is_gone_is_an_error(self):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

        self.assertRaises(FileNotFoundError, cost_of, child)


class OrderTest(unittest.TestCase):
    def test_nobody_always_follows_the_same_one(self):
        rounds = [shuffled(list("dhbp"), key, number) for key in "abc" for number in range(9)]
        before = {target: {one[one.index(target) - 1] for one in rounds if one.index(target)}
                  for target in "dhbp"}

        self.assertEqual(shuffled(list("dhbp"), "a", 0), rounds[0])
        for target, others in before.items():
            self.assertEqual(len(others), 3, f"{target} follows {others}")
        self.assertEqual(shuffled([], "a", 1), [])


class MediansTest(unittest.TestCase):
    def test_median_is_taken_per_figure(self):
        self.assertEqual(medians([Run(tps=1, cpu_us=30), Run(tps=2, cpu_us=10), Run(tps=9, cpu_us=20)]),
                         Run(tps=2, cpu_us=20))

    def test_one_failed_round_fails_them_all(self):
        self.assertEqual(medians([Run(tps=1), Failure("broken")]), Failure("broken"))


class ReportTest(unittest.TestCase):
    def test_ratio_above_the_bound_is_not_met(self):
        limit = published.bound("a")
        for factor, verdict in ((0.99, "yes"), (1.01, "NO")):
            report = plain(results_of({
                ("a", "haproxy"): runs(10.0), ("a", "pgweir-1"): runs(10.0 * limit * factor)}))
            bounds = report.split("bound and goal")[1]
            self.assertIn(f"{limit * factor:.2f}", bounds)
            self.assertEqual(f"  {verdict} " in bounds, True, bounds)

    def test_connecting_is_compared_with_pgbouncer_too(self):
        report = plain(results_of({
            ("g", "haproxy"): runs(200.0), ("g", "pgbouncer"): runs(80.0),
            ("g", "pgweir-1"): runs(60.0)}))

        self.assertIn("≤ 75 µs: yes", report)
        self.assertIn("0.75", report.split("bound and goal")[1])

    def test_an_older_build_is_compared_with_and_not_judged(self):
        results = results_of(
            {("a", "before-1"): runs(10.0), ("a", "pgweir-1"): runs(11.0, tps=900.0)},
            names=("before-1", "pgweir-1"))

        self.assertEqual(results.judged(), "pgweir-1")
        self.assertIn("| 10.0 µs | 11.0 µs | 1.10 | 0.90 |", markdown(results))

    def test_a_ratio_is_the_median_of_what_the_rounds_say(self):
        # The machine was slow in the second round, and in the third as soon as haproxy had had its turn.
        theirs = [Run(cpu_us=cpu) for cpu in (10.0, 20.0, 10.0)]
        mine = [Run(cpu_us=cpu) for cpu in (9.0, 18.0, 30.0)]
        results = results_of({("a", "haproxy"): theirs, ("a", "pgweir-1"): mine})

        self.assertAlmostEqual(results.ratio(("a", "pgweir-1"), ("a", "haproxy"), "cpu_us"), 0.9)

    def test_a_ratio_to_nothing_is_none(self):
        results = results_of({("a", "haproxy"): runs(0.0), ("a", "pgweir-1"): runs(1.0)})

        self.assertIsNone(results.ratio(("a", "pgweir-1"), ("a", "haproxy"), "cpu_us"))

    def test_reasons_are_told_once_under_the_tables(self):
        report = plain(results_of({
            ("b", "haproxy"): runs(10.0), ("b", "pgbouncer"): NotApplicable("too old"),
            ("b", "pgweir-1"): [Failure("it fell over")]}))

        self.assertIn("n/a [", report)
        self.assertIn("failed [", report)
        self.assertEqual(report.count("it fell over"), 1)
        self.assertEqual(report.count("too old"), 1)

    def test_a_target_that_was_not_run_is_never_blank(self):
        report = plain(results_of({("a", "pgweir-1"): runs(10.0)}))

        self.assertIn("not run", report)
        self.assertIn("haproxy: n/a", report)

    def test_rows_of_100k_are_told_in_milliseconds(self):
        self.assertIn("7.1 ms", plain(results_of({("h", "haproxy"): runs(7100.0)})))

    def test_memory_is_judged_for_pgweir_alone(self):
        report = markdown(results_of({
            ("memory", "haproxy"): [Run(base_mb=14.0, idle_kb=9.0, queried_kb=9.0)],
            ("memory", "pgweir-1"): [Run(base_mb=6.0, idle_kb=2.0, queried_kb=7.0)]}))

        self.assertIn("| per client that has asked once, KB | 7.0 | ≤ 6.0: NO | ≤ 2.8: NO |", report)
        self.assertEqual(report.count("NO"), 2)

    def test_latency_is_held_to_haproxys_and_to_its_own_median(self):
        report = markdown(results_of({
            ("rate-null-full", "pgweir-1"): [Run(tps=9.0, tail=1.3)],
            ("rate-null-70", "haproxy"): [Run(p99_us=100.0)],
            ("rate-null-70", "pgweir-1"): [Run(p99_us=110.0)]}))

        self.assertIn("pool of 20: 99 % over the median | 1.30 | ≤ 1.2: NO |", report)
        self.assertIn("| null: 70 % of haproxy's: 99 % over haproxy's | 1.10 | ≤ 1.15: yes |", report)

    def test_ratios_to_the_first_of_a_series_are_within_a_target(self):
        table = Family("x", "Growth", (
            Scenario("x1", "one", None, series="x"), Scenario("x2", "two", None, series="x"),
        ), (Figure("cpu_us", "CPU", "µs", FIRST, own=True),))
        results = Results({}, {"haproxy": "1", "pgweir-1": "1"}, [table], {
            ("x1", "haproxy"): runs(10.0), ("x2", "haproxy"): runs(20.0),
            ("x1", "pgweir-1"): runs(20.0), ("x2", "pgweir-1"): runs(30.0)})

        self.assertIn("| two | 20.0 µs (2.00) | 30.0 µs (1.50) |", markdown(results))

    def test_a_page_keeps_what_is_around_its_report(self):
        page = f"before\n{BEGIN}\nold\n{END}\nafter\n"

        self.assertEqual(put_into(page, "new\n"), f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n")
        self.assertEqual(put_into(put_into(page, "x\n"), "new\n"), put_into(page, "new\n"))
        self.assertRaises(StartError, put_into, "no place", "new\n")

    def test_json_carries_failures_by_name(self):
        text = as_json(results_of({("a", "pgweir-1"): [Failure("it fell over")]}))

        self.assertIn('"failed": "it fell over"', text)

    def test_json_tells_no_cost_of_a_direct_connection(self):
        text = as_json(results_of({("a", "direct"): [Run(tps=10.0)], ("a", "haproxy"): runs(20.0)}))

        self.assertEqual(text.count('"cpu_us": 20.0'), 2)
        self.assertEqual(text.count('"cpu_ratio_to_haproxy": null'), 1)

    def test_what_was_written_is_read_again(self):
        written = results_of({("a", "haproxy"): runs(10.0), ("b", "haproxy"): NotApplicable("too old"),
                              ("a", "pgweir-1"): [Run(cpu_us=1.0), Failure("it fell over")]})

        read = from_json(as_json(written), written.families)

        self.assertEqual(read, written)

    def test_parts_are_joined_and_say_what_they_differ_in(self):
        one = results_of({("a", "haproxy"): runs(10.0), ("b", "haproxy"): runs(1.0)})
        two = results_of({("b", "haproxy"): runs(2.0)})
        two.settings = {**one.settings, "rounds": 3}
        one.settings = {**one.settings, "rounds": 5}

        whole = joined([one, two])

        self.assertEqual(joined([one]), one)
        self.assertEqual(whole.outcomes, {("a", "haproxy"): runs(10.0), ("b", "haproxy"): runs(2.0)})
        self.assertEqual(whole.settings, {**one.settings, "rounds": "5 and 3"})


class PublishedTest(unittest.TestCase):
    def test_every_scenario_has_a_bound_and_a_goal(self):
        for scenario in CORE.scenarios:
            self.assertGreater(published.bound(scenario.key), 0)
            self.assertIn(scenario.key, published.GOAL)

    def test_bound_is_a_quarter_above_pgbouncer(self):
        self.assertAlmostEqual(published.bound("h"), 1.25 * 23.1 / 7.1)


if __name__ == "__main__":
    unittest.main()
