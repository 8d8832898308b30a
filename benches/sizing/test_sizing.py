"""What is made of the figures."""

import tempfile
import unittest
from pathlib import Path

import sizing
from sizing import Figures, Row, best_size, figures_of, last, report


def row(*rates, limits=()):
    return Row([Figures(rate, 1.0, 2.0) for rate in rates], list(limits))


def fixed(rates):
    return {size: row(rate) for size, rate in zip(sizing.SIZES, rates, strict=True)}


class FiguresTest(unittest.TestCase):
    def test_the_first_seconds_of_a_log_do_not_count(self):
        with tempfile.TemporaryDirectory() as folder:
            # One transaction each 10 ms, of 5 ms at first and of 1 ms from the second second on.
            lines = [f"0 1 {5000 if n < 100 else 1000} 0 {100 + n // 100} {n % 100 * 10000}" for n in range(300)]
            (Path(folder) / "pgbench_log.7").write_text("\n".join(lines))

            figures = figures_of(Path(folder), 1)

        self.assertAlmostEqual(figures.rate, 100, delta=1)
        self.assertEqual((figures.p50, figures.p99), (1.0, 1.0))


class TableTest(unittest.TestCase):
    RATES = [100, 200, 300, 395, 400, 398, 390, 380, 300, 200]

    def test_the_smallest_that_is_as_good_as_the_best_is_told(self):
        self.assertEqual(best_size(fixed(self.RATES)), (6, 4))

    def test_an_adaptive_pool_is_held_against_the_best(self):
        limits = [(-1.0, 2), (1.0, 2), (2.0, 4), (3.0, 8), (20.0, 4), (25.0, 5), (29.0, 4), (30.0, 4)]

        text = report("cpu", fixed(self.RATES), {2: row(390, limits=[limits])}, row(300))

        self.assertIn("| size 6 (best) | 400 | 1.00 | 1.0 | 2.0 |", text)
        self.assertIn("| *step:* size 6 | 300 | 1.00 | 1.0 | 2.0 |", text)
        self.assertIn("| *step:* adaptive from 2, at 4 | 390 | 1.30 | 1.0 | 2.0 |", text)
        self.assertIn("Smallest size within 3 % of the best: 4.", text)
        self.assertIn("From 2: there after 2 s, then 4 to 5.", text)

    def test_each_step_is_held_against_the_one_in_its_round(self):
        self.assertEqual(sizing.to_best(row(100, 300, 90), row(200, 200, 100)), "0.50, 1.50, 0.90, median 0.90")

    def test_the_end_is_the_last_third(self):
        self.assertEqual(last([(1.0, 9), (10.0, 8), (21.0, 7), (30.0, 6)]), [7, 6])
