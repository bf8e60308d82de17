"""
A report as one HTML file that loads nothing: charts by plotly.js from its wheel, in the file; light and dark.

page.html, page.css and page.js are the page; the tables are made here, so that they can be read without scripts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from budget_bus.insight.report_formats.cells import COLUMNS, CONTEXT_COLUMNS

_HERE: Final = Path(__file__).parent
_TILES: Final = (
    "cost", "requests", "total_tokens", "cost_per_request", "cost_per_1k_tokens", "cost_per_context", "contexts",
    "cache_savings", "restated_cost", "late_cost", "unpriced_requests",
)  # fmt: skip
_BUDGET: Final = ("name", "period", "unit", "limit", "spent", "held", "unconfirmed", "available", "expected",
                  "runs_out_at")  # fmt: skip
_NAMES: Final = ("name", "period", "unit", "dimension", "value", "start", "end", "at", "reason", "scope", "runs_out_at")
_PLACE: Final = re.compile("@([A-Z]+)@")


def render_html(report: Mapping[str, Any], group_by: Sequence[str]) -> bytes:
    """The page. Every text that comes from outside is escaped; its own policy keeps it from asking anybody anything."""
    title = "Usage" + (f" by {', '.join(group_by)}" if group_by else "")
    parts = {
        "TITLE": escape(title),
        "SPAN": escape(f"{report['window_start']} to {report['window_end']}, costs in {report['currency']}"),
        "STYLE": _read("page.css"),
        "TILES": "".join(_tile(name, report["totals"][name]) for name in _TILES)
        + _tile("unconfirmed", report["unconfirmed"]),
        "TABLES": "".join(_tables(report, group_by)),
        "DATA": _embedded(report),
        "PLOTLY": _plotly(),
        "SCRIPT": _read("page.js"),
    }
    # In one pass, so that a name which looks like a place is left as it is.
    return _PLACE.sub(lambda match: parts[match[1]], _read("page.html")).encode()


def _tables(report: Mapping[str, Any], group_by: Sequence[str]) -> Iterable[str]:
    if group_by:
        groups = ({**group, **{f"by {name}": group["key"][name] for name in group_by}} for group in report["groups"])
        yield _table("Groups", [*(f"by {name}" for name in group_by), *COLUMNS, *CONTEXT_COLUMNS], groups)
    yield _table("Steps of time", ["start", "end", *COLUMNS], report["series"])
    yield _table("Top spenders", ["dimension", "value", "cost", "share_percent"], report["top"])
    budgets = [{**budget, **(budget["forecast"] or {})} for budget in report["budgets"]]
    yield _table("Budgets, in their present windows", _BUDGET, budgets)
    anomalies = [{**one, "scope": json.dumps(one["scope"])} for one in report.get("anomalies", ())]
    if anomalies:
        yield _table("Anomalies", ["at", "scope", "observed", "expected", "reason"], anomalies)


def _table(title: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    head = "".join(f"<th{_style(name)}>{escape(_heading(name))}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(_cell(name, row.get(name)) for name in columns)}</tr>" for row in rows)
    shown = f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    return f"<section><h2>{escape(title)}</h2>{shown if body else '<p class=quiet>None.</p>'}</section>"


def _cell(name: str, value: Any) -> str:
    return f"<td{_style(name)}>{escape('' if value is None else str(value))}</td>"


def _style(name: str) -> str:
    return " class='name'" if name in _NAMES or name.startswith("by ") else " class='number'"


def _tile(name: str, value: Any) -> str:
    shown = "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
    return f"<div><span class='quiet'>{escape(_heading(name))}</span><b>{escape(shown)}</b></div>"


def _heading(name: str) -> str:
    return name.removeprefix("by ").replace("_", " ")


def _embedded(report: Mapping[str, Any]) -> str:
    """JSON that no name can end the script element of, or begin a comment in."""
    kept = {name: report[name] for name in ("currency", "groups", "series", "top")}
    text = json.dumps(kept, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plotly() -> str:
    # Found without importing it, which reads 9 MB.
    spec = find_spec("plotly")
    assert spec is not None  # noqa: S101  # a dependency of ours
    assert spec.submodule_search_locations  # noqa: S101  # and a package
    text = Path(spec.submodule_search_locations[0], "package_data/plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script")


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
