"""Lists for people and programs: a table, JSON, or CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

_UNWRAPPED = 10_000  # columns; lines in a pipe are for grep, not for eyes


class Format(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


FormatOption = Annotated[Format, typer.Option("--format", help="How to print it.")]


def show(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], form: Format, *, empty: str = "nothing to list"
) -> None:
    """
    Print *rows*: as a table or CSV of *columns* (heading -> key; CSV is headed by the keys), or all of them as JSON.

    *empty* is said on stderr instead of a table without rows.
    """
    if form is Format.JSON:
        show_json(list(rows))
    elif form is Format.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns.values())
        writer.writerows([cell(row.get(key)) for key in columns.values()] for row in rows)
    elif rows:
        _table(rows, columns)
    else:
        print(empty, file=sys.stderr)


def show_json(value: Any) -> None:
    """Print *value* as JSON, every character as itself."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def cell(value: Any) -> str:
    """One value as the text of a cell: nothing for null, compact JSON for what is not plain."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str) if value else ""
    return str(value)


def printable(text: str) -> str:
    """*text* without what could command a terminal: control characters other than newline and tab are spelled out."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading, key in columns.items():
        numeric = all(_is_number(row.get(key)) for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell(row.get(key)))) for key in columns.values()))
    terminal = sys.stdout.isatty()
    Console(file=sys.stdout, width=None if terminal else _UNWRAPPED, highlight=False).print(table)


def _is_number(value: Any) -> bool:
    return value is None or cell(value).rstrip("%").replace(".", "", 1).removeprefix("-").isdigit()
