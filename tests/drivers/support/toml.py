"""Writes the few kinds of TOML that a configuration needs."""


import json

_TABLES_OF_TABLES = ("domains", "users", "hosts")


def dumps(config: dict) -> str:
    """The configuration as text: a table for each section, inline tables below that."""
    lines: list[str] = []
    for section, body in config.items():
        if section in _TABLES_OF_TABLES:
            for name, keys in body.items():
                lines += [f"[{section}.{json.dumps(name)}]", *_keys(keys), ""]
        else:
            lines += [f"[{section}]", *_keys(body), ""]
    return "\n".join(lines)


def _keys(table: dict) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items()]


def _value(value) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items())
        return "{ " + inner + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    # TOML's strings, numbers and booleans are JSON's.
    return json.dumps(value)
