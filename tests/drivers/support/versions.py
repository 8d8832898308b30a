"""The versions that `docs/DRIVERS.md` claims to be tested."""

from __future__ import annotations

import re

from .proxy import REPOSITORY

_ROW = re.compile(r"^\| `([^`|]+)`[^|]*\| ([^|]+?) \| `([^`|]+)`[^|]*\|$", re.MULTILINE)


def documented(run_by: str) -> dict[str, str]:
    """Package and version of each row of the table that a make target runs."""
    text = (REPOSITORY / "docs/DRIVERS.md").read_text()
    return {package: version for package, version, target in _ROW.findall(text) if target == run_by}
