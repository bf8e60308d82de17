"""A report as CSV, page and workbook: every name stays a text, whatever it is."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from typing import Any

from budget_bus.insight.report_formats import XLSX, render
from budget_bus.insight.report_formats.cells import COLUMNS, CONTEXT_COLUMNS

WICKED = "</script><script>alert(1)</script>@DATA@"
FORMULA = "=HYPERLINK(1)"


def report() -> dict[str, Any]:
    numbers: dict[str, Any] = {**dict.fromkeys(COLUMNS, 3), "cost": "0.0035", "cost_per_request": None}
    whole = {**numbers, **dict.fromkeys(CONTEXT_COLUMNS, 1)}
    keys = [{"component": WICKED}, {"component": FORMULA}, {"component": None}]
    return {
        "window_start": "2026-11-01T00:00:00Z",
        "window_end": "2026-12-01T00:00:00Z",
        "currency": "USD",
        "totals": whole,
        "groups": [{**whole, "key": key} for key in keys],
        "series": [
            {
                **numbers,
                "start": "2026-11-01T00:00:00Z",
                "end": "2026-12-01T00:00:00Z",
                "groups": [{**numbers, "key": key} for key in keys],
            }
        ],
        "top": [{"dimension": "component", "value": WICKED, "cost": "0.0035", "share_percent": "100.0"}],
        "unpriced": {"requests": 0, "total_tokens": 0},
        "unconfirmed": "0",
        "unconfirmed_holds": 0,
        "budgets": [{"name": WICKED, "limit": "10", "forecast": None}, {"name": "b", "forecast": {"expected": "3.5"}}],
    }


def test_the_page_has_no_name_as_html_and_loads_nothing() -> None:
    content, media_type = render("html", report(), ["component"])
    page = content.decode()
    assert media_type == "text/html; charset=utf-8"
    assert page.count("<script") == 3
    assert page.count("</script") == 3
    assert "alert(1)</script>" not in page
    assert not re.findall(r"<(?:link|img|iframe|script)[^>]+(?:src|href)", page)
    assert "default-src 'none'" in page
    embedded = re.search(r'id="report">(.*?)</script>', page)
    assert embedded is not None
    assert json.loads(embedded[1])["groups"][0]["key"] == {"component": WICKED}
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;@DATA@" in page


def test_the_workbook_has_numbers_as_numbers_and_names_as_texts() -> None:
    content, media_type = render("xlsx", report(), ["component"])
    assert media_type == XLSX
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        sheets = {name: book.read(name).decode() for name in book.namelist() if "worksheets/sheet" in name}
        titles = re.findall(r'<sheet name="(\w+)"', book.read("xl/workbook.xml").decode())
    assert titles == ["Summary", "Groups", "Series", "Top", "Budgets"]
    groups = sheets["xl/worksheets/sheet2.xml"]
    assert "<v>0.0035</v>" in groups
    assert "<f>" not in "".join(sheets.values())
    assert f"<t>{FORMULA}</t>" in groups


def test_csv_marks_what_a_spreadsheet_would_run() -> None:
    rows = [*csv.DictReader(io.StringIO(render("csv", report(), ["component"])[0].decode()))]
    assert [row["component"] for row in rows] == [WICKED, f"'{FORMULA}", ""]
    assert {(row["cost"], row["cost_per_request"], row["currency"]) for row in rows} == {("0.0035", "", "USD")}
