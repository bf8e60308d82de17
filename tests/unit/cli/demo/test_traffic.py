"""The demo's calls: the same for the same seed, and nobody's but the demo's."""

from __future__ import annotations

from datetime import date
from itertools import islice

from budget_bus.cli.demo.limits import bodies
from budget_bus.cli.demo.traffic import COMPONENTS, calls, past_days, usage_of
from budget_bus.events.usage import UsageRecorded

DAY = date(2026, 11, 24)


def test_the_same_seed_makes_the_same_calls_and_another_one_others() -> None:
    first, again, other = (list(islice(calls(seed), 50)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_however_short_there_is_a_model_without_a_price() -> None:
    assert "apollo-predictor" in {call.fields["model"] for call in islice(calls(3), 5)}


def test_what_is_used_stays_below_what_was_asked_for() -> None:
    assert all(call.output_tokens <= call.max_output_tokens for call in islice(calls(1), 500))


def test_a_day_of_the_past_is_the_same_whenever_it_is_made() -> None:
    first, again, other = (usage_of(DAY, seed) for seed in (1, 1, 2))
    assert first == again
    ids = [{event["event_id"] for event in events} for events in (first, other)]
    assert len(ids[0]) == len(first) > 50
    assert ids[0] & ids[1] == set()
    assert {event["occurred_at"][:10] for event in first} == {"2026-11-24"}
    assert [event["occurred_at"] for event in first] == sorted(event["occurred_at"] for event in first)


def test_the_past_ends_before_today() -> None:
    assert past_days(DAY, 3) == [date(2026, 11, 21), date(2026, 11, 22), date(2026, 11, 23)]


def test_events_and_limits_are_of_the_demos_components_alone() -> None:
    events = [UsageRecorded.model_validate(event, strict=False) for event in usage_of(DAY, 1)]
    assert {event.component for event in events} == {*COMPONENTS}
    assert all(name.startswith("demo-") for name in COMPONENTS)
    for body in bodies(100):
        named = body["scope"]["component"]
        assert {named} if isinstance(named, str) else {*named} <= {*COMPONENTS}
        assert body["name"].startswith("demo ")
