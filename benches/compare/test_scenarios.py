"""Tests of what is run, against whom, and how targets stand for it."""

import tempfile
import tomllib
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import plotted
import targets
from certificates import Certificate
from cluster import LIMITED, TRUSTED, USER
from command import asked, by_series
from families import families, idle_clients
from loads import Closed
from scenarios import FIRST, Scenario, chosen, names
from targets import Haproxy, Pgbouncer, Pgweir, Setup, Surroundings

ALL = families(memory_clients=2000, idle_clients=9000)
EVERY = [scenario for family in ALL for scenario in family.scenarios]


def around(folder="/nowhere"):
    server = SimpleNamespace(port=5432, verifier="SCRAM-SHA-256$4096:salt")
    certificate = Certificate(Path("server.crt"), Path("server.key"))
    return Surroundings(server, {"postgres": server, "null": server}, certificate, Path(folder), None)


def pgweir(folder="/nowhere", workers=1, family="pgweir"):
    return Pgweir(around(folder), "/bin/pgweir", workers, family)


class FamiliesTest(unittest.TestCase):
    def test_names_are_of_one_thing_each(self):
        known = names(ALL)

        self.assertEqual(sorted(known), sorted(set(known)))
        self.assertEqual(len({scenario.key for scenario in EVERY}), len(EVERY))

    def test_what_is_compared_with_the_first_has_a_first(self):
        for family in ALL:
            if any(figure.base == FIRST for figure in family.figures):
                self.assertTrue(all(scenario.series for scenario in family.scenarios), family.key)

    def test_a_rate_brings_along_what_it_is_a_share_of(self):
        picked = chosen(ALL, ["rate-null-50"])

        self.assertEqual([one.key for one in picked[0].scenarios], ["rate-null-full", "rate-null-50"])

    def test_a_family_and_a_scenario_of_another_may_be_named(self):
        picked = chosen(ALL, ["login", "a"])

        self.assertEqual([one.key for family in picked for one in family.scenarios], ["a", "scram"])

    def test_no_names_are_all(self):
        self.assertEqual(chosen(ALL, []), list(ALL))

    def test_idle_clients_are_as_many_as_haproxy_bears(self):
        self.assertEqual(idle_clients(100_000), 10_000)
        self.assertLess(2 * (8 + idle_clients(4096)) + targets.FILES_BESIDE, 4096)

    def test_a_series_is_run_together(self):
        groups = by_series([Scenario("x", "", None), Scenario("y1", "", None, series="y"),
                            Scenario("y2", "", None, series="y")])

        self.assertEqual([[one.key for one in group] for group in groups.values()], [["x"], ["y1", "y2"]])


class PlottedTest(unittest.TestCase):
    def test_what_is_drawn_is_run(self):
        self.assertLessEqual(plotted.keys(), {scenario.key for scenario in EVERY})

    def test_every_bar_has_its_words(self):
        self.assertEqual({key for keys, _unit, _divisor in plotted.CPU_PANELS for key in keys},
                         set(plotted.SHORT))


class AskedTest(unittest.TestCase):
    ALL = (Haproxy(around()), pgweir(family="before"), pgweir(), pgweir(workers=2))

    def names(self, **scenario):
        return [target.name for target in asked(Scenario("x", "", None, **scenario), self.ALL)]

    def test_some_are_for_some_kinds_only(self):
        self.assertEqual(self.names(only=("pgweir",)), ["pgweir-1", "pgweir-2"])
        self.assertEqual(self.names(), ["haproxy", "before-1", "pgweir-1", "pgweir-2"])

    def test_workers_of_the_scenarios_own_are_not_run_twice(self):
        self.assertEqual(self.names(only=("pgweir",), setup=Setup(workers=4)), ["pgweir-1"])


class CannotTest(unittest.TestCase):
    def test_a_forwarder_needs_twice_the_files(self):
        scenario = Scenario("x", "", Closed(3000))
        with mock.patch.object(targets, "open_files", return_value=4096):
            self.assertIn("6300 open files", Haproxy(around()).cannot(scenario))
            self.assertIsNone(pgweir().cannot(scenario))

    def test_tls_goes_through_a_forwarder_from_end_to_end(self):
        haproxy = Haproxy(around())

        def cannot(**tls):
            return haproxy.cannot(Scenario("x", "", Closed(1), Setup(**tls)))

        self.assertIn("TLS goes through it", cannot(tls_client=True))
        self.assertIn("TLS goes through it", cannot(tls_server=True))
        self.assertIsNone(cannot(tls_client=True, tls_server=True))

    def test_a_forwarder_has_no_pool(self):
        self.assertIn("no pool", Haproxy(around()).cannot(Scenario("x", "", Closed(1), Setup(pool_size=1))))

    def test_clients_of_a_forwarder_log_in_to_the_server(self):
        haproxy = Haproxy(around())

        self.assertEqual(haproxy.client(Setup()), TRUSTED)
        self.assertEqual(haproxy.client(Setup(limited=True)), LIMITED)
        self.assertEqual(haproxy.client(Setup(auth="scram-sha-256")), USER)
        self.assertEqual(pgweir().client(Setup(limited=True)), USER)


class ConfigTest(unittest.TestCase):
    def test_pgweirs_has_what_the_scenario_wants(self):
        setup = Setup("null", pool_size=3, databases=2, auth="scram-sha-256", tls_server=True, workers=8,
                      statements=10000)
        with tempfile.TemporaryDirectory() as folder:
            target = pgweir(folder)
            target.port = 6432
            target._service(setup, 5432)
            config = tomllib.loads((Path(folder) / "pgweir-1.toml").read_text())

        self.assertEqual(list(config["domains"]), ["bench0", "bench1"])
        self.assertEqual(config["domains"]["bench1"]["tls"]["mode"], "require")
        self.assertEqual(config["listen"]["tls"]["mode"], "disable")
        self.assertEqual(config["auth"]["method"], "scram-sha-256")
        self.assertEqual(config["runtime"]["workers"], 8)
        self.assertEqual((config["pool"]["size"], config["pool"]["prepared_statements"]), (3, 10000))

    def test_pgbouncers_is_the_same(self):
        with tempfile.TemporaryDirectory() as folder:
            target = Pgbouncer(around(folder))
            target.port = 6432
            with mock.patch.object(targets, "_program", return_value="pgbouncer"), \
                    mock.patch.object(Pgbouncer, "version", return_value="PgBouncer 1.25.0"):
                target._service(Setup(pool_size=3, tls_client=True), 5432)
            config = (Path(folder) / "pgbouncer.ini").read_text()

        for line in ("default_pool_size = 3", "client_tls_sslmode = require",
                     "server_tls_sslmode = disable", "max_prepared_statements = 200"):
            self.assertIn(line, config)


if __name__ == "__main__":
    unittest.main()
