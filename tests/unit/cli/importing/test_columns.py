"""Which column is which field: what is found, what is refused, and with which advice."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import typer

from budget_bus.cli.importing.columns import Plan, make_plan
from budget_bus.errors import Rejected
from budget_bus.events.usage import UsageRecorded

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ID = UUID(int=7)
ZONE = ZoneInfo("UTC")
TRACE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MAPS = ["occurred_at=TIMESTAMP", "input_tokens=ContextTokens", "output_tokens=GeneratedTokens"]
SETS = ["component=code", "provider=openai", "model=gpt-4o"]
PLAIN = {
    "occurred_at": "2026-01-01T00:00:00Z",
    "component": "c",
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": "10",
    "output_tokens": "1",
}


def event(plan: Plan, cells: dict[str, Any]) -> UsageRecorded:
    return plan.event(cells, event_id=ID, now=NOW)


def plain(**cells: Any) -> UsageRecorded:
    row = {**PLAIN, **cells}
    return event(make_plan([], [], list(row), ZONE), row)


def test_a_trace_row_becomes_an_event() -> None:
    plan = make_plan(MAPS, SETS, TRACE, ZONE)
    made = event(plan, dict(zip(TRACE, ("2023-11-16 18:17:03.9799600", "4808", "10"), strict=True)))
    assert made == UsageRecorded(
        event_id=ID,
        occurred_at=datetime(2023, 11, 16, 18, 17, 3, 979960, UTC),
        component="code",
        provider="openai",
        model="gpt-4o",
        input_tokens=4808,
        output_tokens=10,
    )


@pytest.mark.parametrize(
    ("cells", "field", "value"),
    [
        pytest.param({"input_tokens": "10.0"}, "input_tokens", 10, id="a whole number written with a point"),
        pytest.param({"estimated": "Yes"}, "estimated", True, id="a truth in words"),
        pytest.param({"tags": '{"env": "prod"}'}, "tags", {"env": "prod"}, id="tags as JSON text"),
        pytest.param({"tags.env": "prod", "tags.team": "a"}, "tags", {"env": "prod", "team": "a"}, id="tags columns"),
        pytest.param({"task_type": "  "}, "task_type", None, id="an empty cell is nothing"),
        pytest.param({"event_id": "00000000-0000-4000-8000-000000000001"}, "event_id",
                     UUID("00000000-0000-4000-8000-000000000001"), id="an id of the file's own"),
        pytest.param({"unknown": "x"}, "user", None, id="other columns are left alone"),
    ],
)  # fmt: skip
def test_columns_that_are_called_like_a_field_need_no_map(cells: dict[str, Any], field: str, value: object) -> None:
    assert getattr(plain(**cells), field) == value


def test_an_amount_stays_exact() -> None:
    cost = plain(**{"reported_cost.amount": "0.123456789", "reported_cost.currency": "USD"}).reported_cost
    assert cost is not None
    assert str(cost.amount) == "0.123456789"


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        pytest.param({"input_tokens": "ten"}, "input_tokens: is not a whole number (column input_tokens holds 'ten')",
                     id="a word for a count"),
        pytest.param({"input_tokens": "-1"}, "input_tokens: ", id="a negative count"),
        pytest.param({"input_tokens": ""}, "input_tokens: is required", id="no count"),
        pytest.param({"occurred_at": "soon"}, "occurred_at: is not a time", id="no time"),
        pytest.param({"occurred_at": "2026-01-02T00:05:01Z"}, "occurred_at: is more than 300 s in the future",
                     id="a time to come"),
        pytest.param({"occurred_at": "1999-12-31T00:00:00Z"}, "occurred_at: ", id="too long ago"),
        pytest.param({"component": "a\tb"}, "component: must not contain control characters", id="a tab in a name"),
        pytest.param({"tags": "env=prod"}, "tags: is not a JSON object; or use tags.NAME", id="tags as words"),
        pytest.param({"estimated": "maybe"}, "estimated: is neither true nor false", id="half a truth"),
        pytest.param({"cache_read_input_tokens": "11"}, "cache_read_input_tokens: with", id="more cached than read"),
    ],
)  # fmt: skip
def test_a_bad_cell_names_field_column_and_content(cells: dict[str, Any], says: str) -> None:
    with pytest.raises(Rejected) as refused:
        plain(**cells)
    assert any(str(error).startswith(says) for error in refused.value.errors)


def test_all_bad_cells_of_a_row_are_told_at_once() -> None:
    with pytest.raises(Rejected) as refused:
        plain(input_tokens="x", occurred_at="y")
    assert {error.field for error in refused.value.errors} == {"input_tokens", "occurred_at"}


@pytest.mark.parametrize(
    ("maps", "sets", "says"),
    [
        pytest.param(["input_tokens=contexttokens"], SETS, "did you mean ContextTokens? There are: TIMESTAMP, ",
                     id="a column in other letters"),
        pytest.param(["input_tokens=Nothing"], SETS, "no column 'Nothing'. There are: TIMESTAMP", id="no such column"),
        pytest.param(["prompt=ContextTokens"], SETS, "'prompt' is no field of an event", id="no such field"),
        pytest.param(["input_token=ContextTokens"], SETS, "did you mean input_tokens?", id="nearly a field"),
        pytest.param(["input_tokens"], SETS, "is not field=COLUMN", id="no column said"),
        pytest.param([*MAPS, MAPS[0]], SETS, "occurred_at is given twice", id="twice"),
        pytest.param([*MAPS, "model=TIMESTAMP"], SETS, "model is given by --map and by --set", id="both ways"),
        pytest.param(MAPS, SETS[:2], "nothing gives model. Add --map model=COLUMN or --set model=NAME", id="no model"),
        pytest.param(MAPS[1:], SETS, "nothing gives occurred_at", id="no time: the past must not count as now"),
        pytest.param(MAPS, [*SETS, "estimated=maybe"], "estimated: is neither true nor false", id="a bad constant"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_explained(maps: list[str], sets: list[str], says: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        make_plan(maps, sets, TRACE, ZONE)
    assert says in str(refused.value)


def test_a_dotted_column_reaches_into_an_object() -> None:
    maps = ["input_tokens=usage.in", "output_tokens=usage.out", "occurred_at=at"]
    plan = make_plan(maps, SETS, ("at", "usage", "usage.in", "usage.out"), ZONE)
    made = event(plan, {"at": "2026-01-01T00:00:00Z", "usage": {"in": 5, "out": 6}})
    assert (made.input_tokens, made.output_tokens) == (5, 6)
    with pytest.raises(Rejected, match="output_tokens: is required"):
        event(plan, {"at": "2026-01-01T00:00:00Z", "usage": {"in": 5}})
