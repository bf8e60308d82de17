"""Loads the named queries of queries/*.sql: a block begins with `-- name: <name>`."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def queries(file: str) -> dict[str, str]:
    """Name -> SQL of `queries/<file>.sql`; comments stay, they help whoever reads a slow-query log."""
    text = (resources.files("budget_bus.store") / "queries" / f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return {name: body.strip().rstrip(";") for name, body in zip(parts[::2], parts[1::2], strict=True)}
