"""A report as CSV: its groups, a row each, or its steps of time if nothing is grouped by."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from budget_bus.insight.report_formats.cells import COLUMNS, CONTEXT_COLUMNS, spreadsheet_text


def render_csv(report: Mapping[str, Any], group_by: Sequence[str]) -> bytes:
    """The rows; what is null is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if group_by:
        names = (*COLUMNS, *CONTEXT_COLUMNS)
        writer.writerow([*group_by, *names, "currency"])
        for group in report["groups"]:
            key = (spreadsheet_text(group["key"][name]) for name in group_by)
            writer.writerow([*key, *(group[name] for name in names), report["currency"]])
    else:
        writer.writerow(["start", "end", *COLUMNS, "currency"])
        for step in report["series"]:
            writer.writerow([step["start"], step["end"], *(step[name] for name in COLUMNS), report["currency"]])
    return out.getvalue().encode()
