"""The first pass: every row is read as an event before any is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self, TextIO

from budget_bus.cli.importing.columns import Plan
from budget_bus.cli.importing.files import Row, SourceFile
from budget_bus.cli.importing.identity import Identity, source_of
from budget_bus.cli.importing.meter import Meter
from budget_bus.errors import FieldError, Rejected
from budget_bus.events.usage import UsageRecorded

MOST_ERRORS = 20


@dataclass(slots=True)
class Totals:
    """What rows sum to; rows that give texts instead of counts are counted as requests only."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    texts: int = 0

    def add(self, event: UsageRecorded) -> None:
        self.requests += 1
        self.input_tokens += event.input_tokens or 0
        self.output_tokens += event.output_tokens or 0
        self.texts += event.input_tokens is None or event.output_tokens is None

    def __iadd__(self, other: Totals) -> Self:
        self.requests += other.requests
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.texts += other.texts
        return self


@dataclass(slots=True)
class Checked:
    """A file whose first *rows* rows were validated, and what those that are good sum to."""

    file: SourceFile
    plan: Plan
    source: str
    now: datetime
    rows: int = 0
    bad: int = 0
    totals: Totals = field(default_factory=Totals)

    def events(self, *, skip_bad: bool) -> Iterator[UsageRecorded]:
        """
        The events of the rows that were validated, read again from the file.

        Raises:
            Rejected: the file is another one by now.
        """
        again = 0
        for row, event in _read(self):
            if again == self.rows:
                return  # Rows that were appended since were not validated.
            again += 1
            if isinstance(event, UsageRecorded):
                yield event
            elif not skip_bad:
                raise self._changed(row.line)
        if again < self.rows:
            raise self._changed(again)

    def _changed(self, line: int) -> Rejected:
        return Rejected(f"{self.file.path}:{line}: has changed during the import; run the same command again")


def check(file: SourceFile, plan: Plan, *, source: str | None, now: datetime) -> Checked:
    """A file that is about to be checked; *source* None takes what the file is known by."""
    return Checked(file, plan, source or source_of(file), now)


def check_rows(checked: Checked, meter: Meter, *, skip_bad: bool) -> list[str]:
    """
    Validate the rows of a file and sum them up.

    Bad rows come back as `FILE:LINE: field: what and the fix`, MOST_ERRORS lines at most and no further reading; with
    *skip_bad* they are written with their reasons to `FILE.rejected.jsonl` instead, and all rows are read.
    """
    path = checked.file.path
    lines: list[str] = []
    with ExitStack() as stack:
        rejects: TextIO | None = None
        for row, event in _read(checked):
            checked.rows += 1
            meter.advance()
            if isinstance(event, UsageRecorded):
                checked.totals.add(event)
                continue
            checked.bad += 1
            if not skip_bad:
                lines += [f"{path}:{row.line}: {error}" for error in event]
                if len(lines) >= MOST_ERRORS:
                    return lines[:MOST_ERRORS]
                continue
            if rejects is None:
                rejects = stack.enter_context(rejects_of(path).open("w", encoding="utf-8"))
            rejects.write(_reject(row, event))
    return lines


def rejects_of(path: Path) -> Path:
    """Where the bad rows of a file go."""
    return path.with_name(f"{path.name}.rejected.jsonl")


def _read(checked: Checked) -> Iterator[tuple[Row, UsageRecorded | tuple[FieldError, ...]]]:
    identity = Identity(checked.source)
    for row in checked.file.rows():
        event_id = identity.event_id(row.content)
        if row.problem is not None:
            yield row, (FieldError("", row.problem),)
            continue
        try:
            yield row, checked.plan.event(row.cells, event_id=event_id, now=checked.now)
        except Rejected as error:
            yield row, error.errors


def _reject(row: Row, errors: tuple[FieldError, ...]) -> str:
    told = [{"field": error.field, "message": error.message} for error in errors]
    content = row.cells or row.content.decode(errors="replace")
    return json.dumps({"line": row.line, "errors": told, "row": content}, ensure_ascii=False, default=str) + "\n"
