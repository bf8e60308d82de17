"""What a question asks for: periods, names, numbers, what is unknown; and that no text takes long to read."""

from __future__ import annotations

from datetime import UTC, datetime
from time import process_time

import pytest

from budget_bus.specialist.names import Names
from budget_bus.specialist.periods import Now, find_spans
from budget_bus.specialist.protocol import QUESTION_CHARS
from budget_bus.specialist.question import Question, understand

NOW = Now(datetime(2026, 3, 10, 12, 7, tzinfo=UTC), "UTC")  # a Tuesday
NAMES = Names(
    {
        "component": ["rhetor", "codex", "team 42", "budget"],
        "model": ["gpt-4o", "gpt-4o-mini", "claude-3-opus"],
        "provider": ["openai", "google"],
        "user": ["ann"],
        "task_type": [],
        "budget": ["daily", "night run"],
    }
)


def read(text: str, *before: str, component: str | None = None) -> Question:
    return understand(text, before, NAMES, NOW, component=component)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("today", "2026-03-10", "2026-03-11"),
        ("yesterday", "2026-03-09", "2026-03-10"),
        ("the day before yesterday", "2026-03-08", "2026-03-09"),
        ("this week", "2026-03-09", "2026-03-16"),
        ("last week", "2026-03-02", "2026-03-09"),
        ("last month", "2026-02-01", "2026-03-01"),
        ("in the last 2 days", "2026-03-08T12:07", "2026-03-10T12:07"),
        ("past week", "2026-03-03T12:07", "2026-03-10T12:07"),
        ("on 2026-02-03", "2026-02-03", "2026-02-04"),
        ("from 2026-02-03 to 2026-02-05", "2026-02-03", "2026-02-06"),
        ("since 2026-03-09", "2026-03-09", "2026-03-10T12:07"),
        ("on tuesday", "2026-03-03", "2026-03-04"),
        ("on march 9th", "2026-03-09", "2026-03-10"),
        ("24 december", "2025-12-24", "2025-12-25"),
        ("in december", "2025-12-01", "2026-01-01"),
        ("this year", "2026-01-01", "2026-03-10T12:07"),
    ],
)
def test_a_period(text: str, start: str, end: str) -> None:
    (span,), _ = find_spans(f"what did we spend {text}?", NOW)
    wanted = [datetime.fromisoformat(one).replace(tzinfo=UTC) for one in (start, end)]
    assert [span.start, span.end] == wanted


def test_a_day_begins_in_the_service_s_time_zone() -> None:
    (span,), _ = find_spans("today", Now(NOW.at, "Asia/Tokyo"))
    assert span.start == datetime(2026, 3, 9, 15, tzinfo=UTC)


def test_names_are_found_however_they_are_written() -> None:
    assert read("how much did Rhetor's calls cost").components == ("rhetor",)
    assert read("what did team 42 spend").components == ("team 42",)
    assert read("what did opus cost").models == ("claude-3-opus",)
    assert read("price of gpt4o").models == ("gpt-4o",)
    assert read("gpt-4o-mini usage").models == ("gpt-4o-mini",)
    assert read("cost of gemini").providers == ("google",)
    assert read("what is left of 'night run'").budgets == ("night run",)


def test_a_name_that_is_a_word_of_ours_counts_only_where_it_is_said_to_be_one() -> None:
    assert read("what did we spend of the budget").components == ()
    assert read("what did component budget spend").components == ("budget",)


def test_what_is_misspelt_is_asked_back_and_what_is_unknown_is_said() -> None:
    assert [one.meant for one in read("what did codxe spend").unknown] == [("codex",)]
    assert [(one.word, one.meant) for one in read("what did zebra spend").unknown] == [("zebra", ())]
    assert read("please tell me honestly what we spent").unknown == ()


def test_numbers_of_calls_and_tokens() -> None:
    asked = read("can codex run 2k more opus calls with 1,500 input tokens and 300 output tokens?")
    assert (asked.intent, asked.calls, asked.tokens) == ("afford", 2000, {"input": 1500, "output": 300})
    assert read("can codex make another opus call").calls == 1
    assert read("can codex run 9999999999999999 opus calls").calls == 10**9


def test_a_follow_up_keeps_what_it_does_not_say() -> None:
    first = "how much did rhetor spend on gpt-4o-mini yesterday"
    for text, components in (("and codex?", ("codex",)), ("and this week?", ("rhetor",))):
        asked = read(text, first)
        assert (asked.intent, asked.components, asked.models) == ("spend", components, ("gpt-4o-mini",))
    assert read("and codex?", first).spans[0].label == "yesterday"
    assert read("list the limits", first).components == ()
    assert read("thanks", first).intent is None


def test_i_am_the_component_that_asks() -> None:
    assert read("why was I refused?", component="codex").components == ("codex",)
    assert read("why was rhetor refused?", component="codex").components == ("rhetor",)


@pytest.mark.parametrize("text", ["next week", "last quarter", "tomorrow", "2026-13-45", "on 3/4"])
def test_a_period_that_is_none_is_not_taken_for_today(text: str) -> None:
    assert read(f"what did we spend {text}").odd_period


MANY = Names({"component": [f"team-{n}" for n in range(2000)], "model": [f"m-{n}-xyzz" for n in range(500)]})


@pytest.mark.parametrize(
    "unit", ["can run ", "which model ", "1 more ", "1,000 ", "xyzzy qwertz ", "2026-01-01 to ", "'a", "why is "]
)
def test_no_question_takes_long_to_read(unit: str) -> None:
    text = (unit * QUESTION_CHARS)[:QUESTION_CHARS]
    started = process_time()
    understand(text, [text] * 20, MANY, NOW)
    assert process_time() - started < 3
