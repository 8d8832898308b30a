"""Figures of a run, for docs/HA.md: nothing is asserted of them that a loaded machine would not hold."""

from __future__ import annotations

import os

RUNS = int(os.environ.get("PGWEIR_CHAOS_RUNS", "1"))
"""How often what differs from run to run is done."""


def row(*cells: object) -> None:
    """Adds a row of a table to the file that PGWEIR_CHAOS_REPORT names."""
    if report := os.environ.get("PGWEIR_CHAOS_REPORT"):
        with open(report, "a") as out:
            out.write("| " + " | ".join(map(str, cells)) + " |\n")
