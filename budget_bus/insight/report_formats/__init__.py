"""
A report, as `GET /api/reports/summary` gives it in JSON, in other formats: values in, bytes out.

csv.py  the groups or the steps    html.py  one page with charts    xlsx.py  a workbook    cells.py  texts in cells
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def render(form: str, report: Mapping[str, Any], group_by: Sequence[str]) -> tuple[bytes, str]:
    """*report* as csv, html or xlsx, and its media type. Takes a moment: not for an event loop's thread."""
    if form == "csv":
        from budget_bus.insight.report_formats.csv import render_csv  # noqa: PLC0415 - only what is asked for

        return render_csv(report, group_by), "text/csv; charset=utf-8"
    if form == "html":
        from budget_bus.insight.report_formats.html import render_html  # noqa: PLC0415 - it reads 5 MB

        return render_html(report, group_by), "text/html; charset=utf-8"
    from budget_bus.insight.report_formats.xlsx import render_xlsx  # noqa: PLC0415 - it imports a library

    return render_xlsx(report, group_by), XLSX
