"""Providers' exports: what their lines mean, and what is refused by the place that is wrong."""

from __future__ import annotations

import json
import time
from datetime import date
from typing import Any

import pytest

from budget_bus.errors import Rejected
from budget_bus.providers.invoices import Invoice, Line, read_invoice

DAY = 1_772_323_200  # 2026-03-01 UTC
MARCH = date(2026, 3, 1)


def cost(value: Any, item: str | None, currency: str = "usd") -> dict[str, Any]:
    return {"object": "organization.costs.result", "amount": {"value": value, "currency": currency}, "line_item": item}


def page(*results: dict[str, Any], start: int = DAY, more: bool = False) -> dict[str, Any]:
    bucket = {"object": "bucket", "start_time": start, "end_time": start + 86_400, "results": list(results)}
    return {"object": "page", "data": [bucket], "has_more": more, "next_page": None}


def report(*results: dict[str, Any]) -> dict[str, Any]:
    bucket = {"starting_at": "2026-03-01T00:00:00Z", "ending_at": "2026-03-02T00:00:00Z", "results": list(results)}
    return {"data": [bucket], "has_more": False, "next_page": None}


def read(said: Any) -> Invoice:
    return read_invoice(said if isinstance(said, bytes) else json.dumps(said).encode())


def test_openais_costs_are_lines_of_a_day_and_an_item() -> None:
    found = read(page(cost(0.1, "gpt-4o-2024-08-06, input"), cost(0.2, "Web searches"), cost("0.3", None)))
    assert found.provider == "openai"
    assert found.days == (MARCH,)
    assert found.lines == (
        Line(MARCH, "Web searches", None, "USD", 200_000_000),
        Line(MARCH, "gpt-4o-2024-08-06, input", "gpt-4o-2024-08-06", "USD", 100_000_000),
        Line(MARCH, "not itemised", None, "USD", 300_000_000),
    )


def test_amounts_are_decimals_that_are_summed_before_they_are_rounded() -> None:
    """0.1 + 0.2 as floats would be 0.30000000000000004; two halves of a nano are one."""
    raw = b'{"data":[{"start_time":%d,"end_time":%d,"results":[' % (DAY, DAY + 86_400)
    raw += b'{"amount":{"value":0.1000000005,"currency":"usd"},"line_item":"gpt-4o"},'
    raw += b'{"amount":{"value":0.2000000005,"currency":"usd"},"line_item":"gpt-4o"}]}]}'
    assert [line.cost_nanos for line in read(raw).lines] == [300_000_001]


def test_anthropics_amounts_are_cents() -> None:
    said = {"amount": "123.45", "currency": "USD", "model": "claude-sonnet-4-5", "description": "Sonnet, output"}
    bare = {"amount": "-1", "currency": "USD", "model": None, "description": None}
    found = read(report(said, bare))
    assert found.provider == "anthropic"
    assert found.lines == (
        Line(MARCH, "Sonnet, output", "claude-sonnet-4-5", "USD", 1_234_500_000),
        Line(MARCH, "not itemised", None, "USD", -10_000_000),
    )


def test_pages_are_one_export_and_days_without_costs_are_known() -> None:
    found = read([page(cost(1, "gpt-4o"), more=True), page(start=DAY + 86_400)])
    assert found.days == (MARCH, date(2026, 3, 2))
    assert len(found.lines) == 1


@pytest.mark.parametrize("separator", [",", "\t"])
def test_openais_csv_is_the_same(separator: str) -> None:
    columns = [
        "start_time",
        "end_time",
        "start_time_iso",
        "end_time_iso",
        "amount_value",
        "amount_currency",
        "line_item",
    ]
    rows = [
        [DAY, DAY + 86_400, "", "", "0.8958740000000000", "usd", "gpt-4o"],
        [DAY + 86_400, DAY + 172_800, *[""] * 5],
    ]
    text = "\n".join(separator.join(map(str, row)) for row in [columns, *rows])
    found = read(("\ufeff" + text).encode())
    assert found.lines == (Line(MARCH, "gpt-4o", "gpt-4o", "USD", 895_874_000),)
    assert found.days == (MARCH, date(2026, 3, 2))


@pytest.mark.parametrize(
    ("said", "field"),
    [
        pytest.param(b"", "export", id="nothing"),
        pytest.param(b"\xff\xfe", "export", id="not UTF-8"),
        pytest.param(b'{"data": [', "export", id="cut off"),
        pytest.param(b"[" * 100_000, "export", id="deep"),
        pytest.param(b"a,b\n1,2\n", "export", id="other columns"),
        pytest.param([], "export", id="no page"),
        pytest.param({"data": 7}, "export", id="no list"),
        pytest.param(page(more=True), "has_more", id="not the last page"),
        pytest.param({"data": [7]}, "data.0", id="no bucket"),
        pytest.param(
            {"data": [{"start_time": DAY, "end_time": DAY + 86_400, "results": [7]}]},
            "data.0.results.0",
            id="no result",
        ),
        pytest.param({"data": [{"start_time": "x", "end_time": 1, "results": []}]}, "data.0.start_time", id="no time"),
        pytest.param({"data": [{"start_time": DAY, "end_time": DAY + 3_600, "results": []}]}, "data.0", id="an hour"),
        pytest.param(
            {"data": [{"start_time": 10**20, "end_time": 1, "results": []}]}, "data.0.start_time", id="far away"
        ),
        pytest.param(page({"line_item": "x"}), "data.0.results.0.amount", id="no amount"),
        pytest.param(page(cost("much", "x")), "data.0.results.0.amount.value", id="no number"),
        pytest.param(page(cost(True, "x")), "data.0.results.0.amount.value", id="a truth"),
        pytest.param(
            b'{"data":[{"start_time":%d,"end_time":%d,"results":[{"amount":{"value":NaN,"currency":"usd"}}]}]}'
            % (DAY, DAY + 86_400),
            "data.0.results.0.amount.value",
            id="NaN",
        ),
        pytest.param(page(cost(1e11, "x")), "data.0.results.0.amount.value", id="huge"),
        pytest.param(page(cost(1, "x", "dollars")), "data.0.results.0.amount.currency", id="no currency"),
        pytest.param(page(cost(1, "x" * 501)), "data.0.results.0.line_item", id="a long item"),
        pytest.param(report({"amount": "1", "currency": None}), "data.0.results.0.currency", id="no currency code"),
    ],
)
def test_what_is_wrong_is_named(said: Any, field: str) -> None:
    with pytest.raises(Rejected) as refused:
        read(said)
    assert [error.field for error in refused.value.errors] == [field]


CONSOLE = (
    "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type\n"
)


def test_the_console_of_anthropic_shows_names_that_the_api_does_not_use():
    rows = (
        "2026-08-04,Claude Haiku 4.5,Default,a,message,≤ 200k,input_no_cache,0.05,0.05,token\n"
        "2026-08-04,Claude Haiku 4.5,Default,b,message,≤ 200k,input_no_cache,0.01,0.01,token\n"
        "2026-08-05,,Default,a,message,,,0.30,0.30,web_search\n"
    )
    invoice = read_invoice((CONSOLE + rows).encode())
    assert invoice.provider == "anthropic"
    assert [(str(line.day), line.item, line.model, line.currency, line.cost_nanos) for line in invoice.lines] == [
        ("2026-08-04", "Claude Haiku 4.5, token, input_no_cache", "claude-haiku-4-5", "USD", 60_000_000),
        ("2026-08-05", "web_search", None, "USD", 300_000_000),
    ]


def test_a_time_without_a_zone_is_utc(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        raw = b'{"data":[{"starting_at":"2026-01-01T00:00:00","ending_at":"2026-01-02T00:00:00","results":[]}]}'
        assert [str(day) for day in read_invoice(raw).days] == ["2026-01-01"]
    finally:
        monkeypatch.undo()
        time.tzset()


OPENAI = "start_time,end_time,amount_value,amount_currency,line_item\n"


def _costs(item: str = '"x"', currency: str = '"usd"', value: str = "1") -> bytes:
    result = f'{{"amount":{{"value":{value},"currency":{currency}}},"line_item":{item}}}'
    return f'{{"data":[{{"start_time":0,"end_time":86400,"results":[{result}]}}]}}'.encode()


@pytest.mark.parametrize(
    ("raw", "field", "word"),
    [
        (("a" * 200_000 + "\n").encode(), "export", "CSV"),
        (b"", "export", "columns"),
        ((OPENAI.strip() + ",line_item\n").encode(), "export", "same name"),
        ((OPENAI + "0,86400,1,usd\n").encode(), "line 2", "fields"),
        ((OPENAI + "0,86400,1,usd,x,y\n").encode(), "line 2", "fields"),
        ((OPENAI + "0,86400,1,usd," + "x" * 501 + "\n").encode(), "line 2.line_item", "500"),
        ((OPENAI + "0,86400,1,usd,x\0y\n").encode(), "line 2.line_item", "NUL"),
        ((OPENAI + "0,86400,1,dollars,x\n").encode(), "line 2.amount_currency", "ISO 4217"),
        (_costs(item='"a\\u0000b"'), "data.0.results.0.line_item", "NUL"),
        (_costs(item='"\\ud800"'), "data.0.results.0.line_item", "surrogate"),
        (_costs(item="7"), "data.0.results.0.line_item", "text"),
        (_costs(currency="null"), "data.0.results.0.amount.currency", "ISO 4217"),
        (_costs(currency='{"a":1}'), "data.0.results.0.amount.currency", "ISO 4217"),
        (_costs(value="9999999999.5"), "export", "9 billion"),
        (_costs(value="NaN"), "data.0.results.0.amount.value", "amount"),
        (_costs(value="true"), "data.0.results.0.amount.value", "amount"),
        (b"[" * 100_000, "export", "JSON"),
        ((CONSOLE + "9999-12-31,m,w,k,u,c,t,1,1,token\n").encode(), "line 2.usage_date_utc", "future"),
        ((CONSOLE + "August,m,w,k,u,c,t,1,1,token\n").encode(), "line 2.usage_date_utc", "time"),
        ((CONSOLE + "2026-08-04,m,w,k,u,c,t,much,1,token\n").encode(), "line 2.cost_usd", "amount"),
        (b"usage_date_utc,cost_usd\n2026-08-04,1\n", "export", "model, token_type"),
    ],
)
def test_an_odd_export_is_refused_by_the_place_that_is_odd(raw, field, word):
    with pytest.raises(Rejected) as refused:
        read_invoice(raw)
    (error,) = refused.value.errors
    assert error.field == field
    assert word in error.message
