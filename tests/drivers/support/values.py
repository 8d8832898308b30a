"""A value of each type that a driver has to carry, as Python has it."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal

_UTC = datetime.timezone.utc

VALUES = {
    "boolean": True,
    "smallint": -32768,
    "int": 2**31 - 1,
    "bigint": -(2**63),
    "real": 1.5,
    "double precision": 0.1 + 0.2,
    "numeric": Decimal("-12345678901234567890.123456789012345678900"),
    "text": "naïve 漢字 \U0001f40d '\\\"\n",
    "bytea": bytes(range(256)) * 40,
    "date": datetime.date(1582, 10, 15),
    "time": datetime.time(23, 59, 59, 999999),
    "timestamp": datetime.datetime(1999, 12, 31, 23, 59, 59, 999999),
    "timestamptz": datetime.datetime(2038, 1, 19, 3, 14, 8, 1, _UTC),
    "interval": datetime.timedelta(days=3, hours=4, microseconds=5),
    "uuid": uuid.UUID("0b6d2f9c-8a4e-4d5f-9d0e-1f2a3b4c5d6e"),
    "json": {"a": [1, 2.5, None, "x"], "b": {}},
    "jsonb": {"a": [1, 2.5, None, "ü"], "b": {"c": True}},
    "int[]": [1, None, 3],
    "text[]": ["a", "b,c", '"quoted"', None],
}
"""PostgreSQL's name of the type: the value."""
