"""Which calls the demo makes: four components with habits of their own, the same calls for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from random import Random
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

Model = tuple[str, str]
# What becomes of a call that is allowed; `unchecked` ones are recorded without having asked.
Fate = Literal["settled", "voided", "unchecked"]

_BASE_PER_DAY = 160
_PER_HOUR = (1, 1, 1, 1, 1, 1, 2, 4, 8, 12, 12, 11, 8, 11, 12, 11, 9, 6, 4, 3, 3, 2, 2, 1)
_WEEKEND = 0.3
_SPIKE_EVERY_DAYS, _SPIKE = 11, 6  # on such a day one component runs wild


@dataclass(frozen=True, slots=True)
class Habit:
    """What one component asks for. Tokens are medians; `weight` is its share of the calls."""

    component: str
    weight: int
    models: tuple[tuple[Model, int], ...]
    input_tokens: int
    output_tokens: int
    tasks: tuple[str, ...]


HABITS = (
    Habit(
        "demo-rhetor",
        40,
        ((("openai", "gpt-4o"), 5), (("openai", "gpt-4o-mini"), 4), (("anthropic", "claude-sonnet-4-5"), 1)),
        1800,
        350,
        ("chat", "summary"),
    ),
    Habit(
        "demo-codex",
        30,
        ((("anthropic", "claude-sonnet-4-5"), 7), (("openai", "gpt-4o"), 3)),
        6000,
        900,
        ("review", "edit"),
    ),
    Habit(
        "demo-ergon",
        20,
        ((("anthropic", "claude-3-5-haiku-latest"), 6), (("google", "gemini-2.0-flash"), 4)),
        2500,
        500,
        ("plan", "tool"),
    ),
    # Its own model has no price that anybody knows, and a local one costs nothing.
    Habit("demo-apollo", 10, ((("ollama", "llama3.1"), 7), (("in-house", "apollo-predictor"), 3)), 900, 200, ("plan",)),
)
UNPRICED = {"component": "demo-apollo", "provider": "in-house", "model": "apollo-predictor"}
COMPONENTS = tuple(habit.component for habit in HABITS)


@dataclass(frozen=True, slots=True)
class DemoCall:
    """One call: what it asks for, what it will use, how long its model takes, and what becomes of it."""

    fields: dict[str, Any]
    input_tokens: int
    max_output_tokens: int
    output_tokens: int
    seconds: float
    fate: Fate

    @property
    def used(self) -> dict[str, Any]:
        return {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}


def calls(seed: int) -> Iterator[DemoCall]:
    """The calls of now, one after the other, without end."""
    random = Random(f"{seed}/live")
    for number in count():
        habit = random.choices(HABITS, [habit.weight for habit in HABITS])[0]
        call = _call(random, habit)
        # However short the demo, there is a model without a price in it.
        yield replace(call, fields=call.fields | UNPRICED, fate="settled") if number % 40 == 4 else call


def past_days(today: date, days: int) -> list[date]:
    """So many *days* before *today*, oldest first."""
    return [today - timedelta(days=back) for back in range(days, 0, -1)]


def usage_of(day: date, seed: int) -> list[dict[str, Any]]:
    """
    The usage events of a day (UTC) in the past, in order of time. They are the same whenever they are made, ids
    included, so that a day which is recorded again is counted once.
    """
    random = Random(f"{seed}/{day}")
    weights = [habit.weight for habit in HABITS]
    usual = round(_BASE_PER_DAY * (_WEEKEND if day.weekday() >= 5 else 1) * random.uniform(0.85, 1.15))
    habits = random.choices(HABITS, weights, k=usual)
    if day.toordinal() % _SPIKE_EVERY_DAYS == 0:
        habits += [HABITS[1]] * (_SPIKE * usual * HABITS[1].weight // sum(weights))
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    hours = random.choices(range(24), _PER_HOUR, k=len(habits))
    moments = sorted(midnight + timedelta(hours=hour, seconds=random.randrange(3600)) for hour in hours)
    random.shuffle(habits)
    return [_event(_call(random, habit), at, seed) for habit, at in zip(habits, moments, strict=True)]


def _event(call: DemoCall, at: datetime, seed: int) -> dict[str, Any]:
    event = {**call.fields, **call.used, "occurred_at": at.isoformat().replace("+00:00", "Z")}
    said = "/".join(str(value) for value in event.values())
    return {"event_id": str(uuid5(NAMESPACE_URL, f"urn:budget-bus:demo:{seed}:{said}")), **event}


def _call(random: Random, habit: Habit) -> DemoCall:
    (provider, model), _ = random.choices(habit.models, [weight for _, weight in habit.models])[0]
    output_tokens = _around(random, habit.output_tokens)
    return DemoCall(
        fields={
            "component": habit.component,
            "provider": provider,
            "model": model,
            "task_type": random.choice(habit.tasks),
            "user": random.choice(("ada", "grace", "linus")),
            "context_id": f"demo-session-{random.randrange(1, 25)}",
        },
        input_tokens=_around(random, habit.input_tokens),
        max_output_tokens=2 * output_tokens,
        output_tokens=output_tokens,
        seconds=random.uniform(0.2, 1.5),
        fate=random.choices(("settled", "voided", "unchecked"), (94, 4, 2))[0],
    )


def _around(random: Random, median: int) -> int:
    return max(1, round(random.lognormvariate(0, 0.5) * median))
