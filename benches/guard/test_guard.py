"""Tests of what turns counts into a verdict."""

import unittest

from guard import Counted, StartError, allowed, report


class AllowedTest(unittest.TestCase):
    def test_a_commit_may_say_what_costs_more_and_why(self):
        said = ("wire: settle apart\n\nProblem: one fails all.\nSolution: each alone.\n"
                "Costs: pipeline 1.10 each Sync is settled apart\nChecked by: a test\n\n"
                "wire: once more\n\nCosts: pipeline 1.04 the name is looked up\n"
                "Costs: connect 1.05 a second look at the name\n")

        self.assertEqual(allowed(said), {"pipeline": 1.10, "connect": 1.05})
        self.assertEqual(allowed(""), {})

    def test_what_gives_no_reason_or_no_ratio_is_refused(self):
        for line in ("pipeline 1.10", "pipeline more than before", "everything 1.10 it is better", ""):
            self.assertRaises(StartError, allowed, f"Costs: {line}\n")


class ReportTest(unittest.TestCase):
    def test_a_ratio_above_its_bound_is_too_many(self):
        counted = [Counted("simple", 1000, 1029, 1.03), Counted("connect", 1000, 1031, 1.03)]

        self.assertEqual([one.is_too_many for one in counted], [False, True])
        self.assertIn("| simple | 1000 | 1029 | 1.029 | 1.03: yes |", report(counted))
        self.assertIn("| connect | 1000 | 1031 | 1.031 | 1.03: NO |", report(counted))


if __name__ == "__main__":
    unittest.main()
