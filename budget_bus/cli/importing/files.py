"""A CSV or JSONL file -> its rows, each with its line number and its content as identity sees it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TextIO

from budget_bus.errors import Rejected

_DELIMITERS = ",;\t|"
_MAX_CELL = 8 * 1024 * 1024  # two of the longest texts that an event may hold
_SAMPLE_ROWS = 100


class FileFormat(StrEnum):
    """How a file is written."""

    AUTO = "auto"
    CSV = "csv"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class Row:
    """
    One row. *content* is what the file says in it, without its layout; *problem* is why it cannot be read at all, and
    then there are no *cells*.
    """

    line: int
    cells: Mapping[str, Any]
    content: bytes
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was looked at: `rows` reads it from the start each time."""

    path: Path
    form: FileFormat
    header: tuple[str, ...]
    delimiter: str = ","

    def rows(self) -> Iterator[Row]:
        """
        The rows in their order; blank lines are none.

        Raises:
            Rejected: the file is not UTF-8 text, or breaks off inside a quoted cell.
        """
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as text:
                yield from _csv_rows(self, text) if self.form is FileFormat.CSV else _jsonl_rows(text)
        except UnicodeDecodeError as error:
            raise Rejected(f"{self.path}: is not UTF-8 ({error.reason}); save it as UTF-8") from None

    def columns(self) -> tuple[str, ...]:
        """The columns there are: the header's, or what the first rows name, with dots into nested objects."""
        if self.form is FileFormat.CSV:
            return self.header
        names: dict[str, None] = {}
        for row in islice(self.rows(), _SAMPLE_ROWS):
            names |= dict.fromkeys(_paths(row.cells))
        return tuple(names)


def look_at(path: Path, form: FileFormat) -> SourceFile:
    """
    Find out how *path* is written, by its content where *form* is auto.

    Raises:
        Rejected: not text, without a header, or with two columns of one name.
        OSError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            first = next((line for line in text if line.strip()), "")
    except UnicodeDecodeError as error:
        raise Rejected(f"{path}: is not UTF-8 ({error.reason}); save it as UTF-8") from None
    if form is FileFormat.AUTO:
        form = FileFormat.JSONL if first.lstrip().startswith("{") else FileFormat.CSV
    if form is FileFormat.JSONL:
        return SourceFile(path, form, ())
    if not first:
        raise Rejected(f"{path}:1: is empty; a CSV file begins with a line of column names")
    delimiter = max(_DELIMITERS, key=first.count)
    csv.field_size_limit(_MAX_CELL)
    header = tuple(name.strip() for name in next(csv.reader([first], delimiter=delimiter)))
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise Rejected(f"{path}:1: column {twice[0]!r} is there twice; rename one")
    return SourceFile(path, form, header, delimiter)


def _csv_rows(file: SourceFile, text: TextIO) -> Iterator[Row]:
    csv.field_size_limit(_MAX_CELL)
    reader = csv.reader(text, delimiter=file.delimiter, strict=True)
    begun, before = False, 0
    try:
        for cells in reader:
            # A quoted cell may span lines; the row is where it begins.
            line, before = before + 1, reader.line_num
            if not cells or not any(cell.strip() for cell in cells):
                continue
            if not begun:
                begun = True
                continue
            content = "\x1f".join(cells).encode()
            if len(cells) == len(file.header):
                yield Row(line, dict(zip(file.header, cells, strict=True)), content)
            else:
                problem = f"has {len(cells)} cells, but the header has {len(file.header)}"
                yield Row(line, {}, content, problem)
    except csv.Error as error:
        raise Rejected(f"{file.path}:{before + 1}: cannot be read as CSV from here on: {error}") from None


def _jsonl_rows(text: TextIO) -> Iterator[Row]:
    for line, raw in enumerate(text, 1):
        if not raw.strip():
            continue
        try:
            # Decimals, so that an amount of money is never a float.
            value = json.loads(raw, parse_float=Decimal, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            yield Row(line, {}, raw.strip().encode(), f"is not JSON: {error}")
            continue
        if isinstance(value, dict):
            said = json.dumps(value, sort_keys=True, default=str, separators=(",", ":"))
            yield Row(line, value, said.encode())
        else:
            yield Row(line, {}, raw.strip().encode(), "is not a JSON object such as {...}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _paths(cells: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in cells.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{name}.")
