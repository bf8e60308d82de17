"""The budget specialist on real books: what it answers, and that it invents no figure."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

import asyncpg
import pytest

from budget_bus.mcp.rest import Rest
from budget_bus.mcp.tools import Tools
from budget_bus.policy.budget import Policy, Unit
from budget_bus.policy.windows import Period
from budget_bus.producers.topics import apply_topics
from budget_bus.settings import Settings
from budget_bus.specialist.desk import Answered, Desk
from budget_bus.specialist.evidence import Evidence
from budget_bus.specialist.protocol import Chat
from tests.integration.books import USD, Books, check, usage
from tests.integration.http_client import client_of

NOW = datetime(2026, 3, 10, 12, 7, 30, tzinfo=UTC)  # a Tuesday
OPUS = {"provider": "anthropic", "model": "claude-3-opus"}


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool, clock=lambda: NOW)


@pytest.fixture
async def desk(kafka: str, settings: Settings) -> AsyncIterator[Desk]:
    await apply_topics(settings)
    async with client_of(settings, now=lambda: NOW) as client:
        yield Desk(client, "UTC", clock=lambda: NOW)


async def ask(desk: Desk, text: str, *before: str, **fields: Any) -> str:
    history = [{"role": "user", "content": one} for one in before]
    return (await desk.ask(Chat.model_validate({"content": text, "history": history, **fields}))).content


async def used(books: Books, ago: timedelta = timedelta(minutes=1), **fields: Any) -> None:
    """0.0035 dollars, unless the fields say otherwise."""
    await books.settle(usage(occurred_at=(NOW - ago).isoformat(), **fields))


async def scene(books: Books) -> None:
    """Three components, four models, two days and last week; a denial, a hold, a model without a price."""
    await books.limit(10 * USD, name="daily")
    await books.limit(USD // 10, name="ergon-daily", scope={"component": "ergon"})
    await books.limit(100 * USD, name="monthly", period=Period.MONTHLY, policy=Policy.WARN)
    await books.limit(50, name="calls", unit=Unit.REQUESTS, scope={"component": "codex"})
    for n in range(3):
        await used(books, timedelta(minutes=n))
    await used(books, component="codex", user="ann")
    await used(books, component="ergon", input_tokens=1000, output_tokens=0, **OPUS)  # 0.015
    await used(books, timedelta(days=1), component="codex", input_tokens=2000, output_tokens=0, **OPUS)
    await used(books, timedelta(days=7), component="codex", model="gpt-4o-mini")
    await used(books, component="rhetor", model="nobody-s-model")
    (held,) = await books.ask(check(component="codex"))
    assert held["allowed"]
    (denied,) = await books.ask(check(component="ergon", estimated_tokens=100_000))
    assert not denied["allowed"]


ALL = "Today (2026-03-10 00:00 UTC to 2026-03-11 00:00 UTC)"
# A question, after those before it; and what its answer says.
ANSWERS = (
    ("who spent most today?",
     f"{ALL}, ergon spent the most: 0.015 USD, 51.7 % of 0.029 USD.",
     "1 call of a model without"),
    ("Spent most today who", "ergon spent the most: 0.015 USD"),
    ("who is the biggest spender", "ergon spent the most: 0.015 USD"),
    ("who spent the least", "codex spent the least: 0.0035 USD"),
    ("who spent most yesterday", "codex spent the most: 0.03 USD, 100.0 % of 0.03 USD."),
    ("which model cost most this week?", "claude-3-opus spent the most: 0.045 USD"),
    ("most expensive provider this month", "anthropic spent the most: 0.045 USD"),
    ("top 1 models by tokens", "gpt-4o used the most: 4,400 tokens", "2 more spent something as well."),
    ("which users spent most", "ann: 0.0035 USD"),
    ("spend by component", "rhetor: 0.0105 USD (4 calls, 4,400 tokens)."),
    ("how much did rhetor spend?", "rhetor spent 0.0105 USD (4 calls, 4,400 tokens)."),
    ("rhetor spending on 2026-03-10", "On that day", "rhetor spent 0.0105 USD"),
    ("what did codex and ergon spend today", "codex and ergon spent 0.0185 USD", "ergon: 0.015 USD"),
    ("how much has codex spent on opus in the last 7 days",
     "In the last 7 days",
     "codex with claude-3-opus spent 0.03 USD"),
    ("how many calls did codex make today", "codex made 1 call, of 1,100 tokens, for 0.0035 USD."),
    ("how many tokens did ergon use this month?", "ergon used 1,000 tokens in 1 call"),
    ("what did we spend on monday", "all together spent 0.03 USD"),
    ("what did ann spend", "calls for ann cost 0.0035 USD"),
    ("what did codex spend in april 2025", "no calls by codex"),
    ("what is left?",
     "Within budget",
     "daily (daily, HARD_LIMIT): 0.029 of 10 USD spent, 0.01 held (0.3 %); 9.961 USD left"),
    ("how much is left of the daily budget", "9.961 USD left until 2026-03-11 00:00 UTC."),
    ("am I within budget?", "Within budget", "ergon-daily"),
    ("can ergon run 200 more opus calls?", "No: 200 calls of anthropic/claude-3-opus by ergon do not fit; 5 would.",
     "0.085 USD available, enough for 5 at 0.015 USD a call; 200 * 0.015 = 3 USD."),
    ("can ergon run 5 opus calls", "Yes: 5 calls of anthropic/claude-3-opus by ergon fit; 5 would."),
    ("how many opus calls can codex still make",
     "48 calls of anthropic/claude-3-opus by codex fit now.",
     "48 requests available"),
    ("can codex run 20 more calls of gpt-4o with 1000 input tokens and 500 output tokens?",
     "Yes: 20 calls of openai/gpt-4o",
     "One costs 0.0075 USD: 1,000 tokens at 2.5 USD for 1M of input and 500 tokens at 10 USD for 1M of output."),
    ("can we afford 1000 gpt-4o calls with 2000 tokens each",
     "No: 1,000 calls of openai/gpt-4o do not fit; 498 would."),
    ("why was I refused?",
     "Of anybody 1 check denied",
     "the call needs 1 USD, 0.085 of 0.1 USD is left",
     "It frees up at 2026-03-11"),
    ("why was ergon's call denied", "Of ergon 1 check denied"),
    ("was codex blocked yesterday", "No check of codex was denied in that time"),
    ("when does the daily budget run out?", "0.029 of 10 USD is spent", "it does not run out before"),
    ("will we exceed the monthly budget", "monthly: 0.059"),
    ("open holds", "1 hold, set aside", "codex: 0.01 USD in 1, the last until 2026-03-10 12:17 UTC."),
    ("anything unconfirmed?", "Nothing is charged for calls of which nothing was heard."),
    ("which models have no price", "openai/nobody-s-model: 1 call."),
    ("price of gpt-4o", "openai/gpt-4o: 2.5 USD for 1M tokens of input, 10 USD for 1M of output"),
    ("what is the price of claude-3-opus for 1000 input tokens", "1,000 tokens of input cost 0.015 USD."),
    ("list limits", "4 budgets:", "calls: 50 requests daily, HARD_LIMIT, for component codex."),
    ("which limits apply to ergon", "3 budgets:"),
    ("any alerts?", "not acknowledged of these"),
    ("cheapest model for codex",
     "cheapest first",
     "openai/gpt-4o-mini: 0.000000191 USD a token (0.00021 USD for 1,100 tokens)."),
    ("is gpt-4o-mini cheaper than gpt-4o?", "Cheapest first", "gpt-4o-mini: 0.15 USD"),
    ("compare this week with last week", "The former is 0.05879 USD more", "By the same time of the earlier period"),
    ("did we spend more today than yesterday", "The former is 0.001 USD less (96.7 % of the latter)."),
    ("who spent most today? | and yesterday?", "Yesterday", "codex spent the most: 0.03 USD"),
    ("who spent most today? | and codex?", f"{ALL} codex spent 0.0035 USD"),
    ("how much did rhetor spend today? | what about codex? | this week?", "This week", "codex spent 0.0335 USD"),
    ("how much did rhetr spend today", 'I know no name "rhetr"; did you mean rhetor?'),
    ("how much did rhetr spend today | yes", "rhetor spent 0.0105 USD"),
    ("how much did zebra spend", 'I know no name "zebra".'),
    ("price of gpt-99", 'I know no name "gpt-99".'),
    ("what did we spend next week", "I do not know that period."),
    ("what did we spend in 2026-13-40", "I do not know that period."),
    ("sing", "I did not understand that. You can ask, for example:"),
    ("help", "You can ask, for example:"),
    ("average cost per call of codex this week", "codex", "on average 0.01675 USD a call."),
    ("what did gpt4o cost today", "calls with gpt-4o cost 0.014 USD"),
    ("rhetors spending today", "rhetor spent 0.0105 USD"),
    ("how many requests in the last hour", "In the last 1 hour (2026-03-10 11:07 UTC to 2026-03-10 12:07 UTC)"),
    ("what did we spend on 9 march", "all together spent 0.03 USD"),
    ("usage since 2026-03-09", "Since then (2026-03-09 00:00 UTC to 2026-03-10 12:07 UTC)"),
    ("spend from 2026-03-01 to 2026-03-09", "In that time (2026-03-01 00:00 UTC to 2026-03-10 00:00 UTC)"),
    ("what did everything cost ever", "Since the beginning"),
    ("how many calls last week per model", "Last week", "gpt-4o-mini made the most: 1 calls"),
    ("gpt-4o usage by component this month", "This month", "rhetor"),
    ("how much have openai models cost today", "calls from openai cost 0.014 USD"),
    ("how is ergon doing with its budget", "ergon-daily"),
    ("compare codex this week with last week", "Codex: this week"),
    ("what is the cost of 500 input tokens and 20 output tokens of gpt-4o", "500 tokens of input cost"),
)  # fmt: skip


async def test_it_answers_from_the_books(books: Books, desk: Desk) -> None:
    await scene(books)
    for question, *said in ANSWERS:
        *before, text = question.split(" | ")
        answer = await ask(desk, text, *before)
        for part in said:
            assert part in answer, (question, answer)


# The proof. What is a figure, and what is known, is decided here anew, without the code that is judged.
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d) UTC")


def leaves(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        for name, value in content.items():
            yield from leaves(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from leaves(value, key)
    elif content is not None and not isinstance(content, bool):
        yield key, content


def as_number(value: Any) -> Decimal | None:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


OPERATIONS: dict[str, Callable[..., Decimal]] = {
    "sum": lambda *parts: sum(parts, Decimal(0)),
    "difference": lambda a, b: abs(a - b),
    "product": lambda a, b: a * b,
    "quotient": lambda a, b: (a / b).quantize(Decimal("1e-9"), ROUND_CEILING),
    "price": lambda tokens, per_1m: (tokens * per_1m / 10**6).quantize(Decimal("1e-9"), ROUND_CEILING),
    "whole": lambda a, b: a // b,
    "share": lambda part, whole: (part * 100 / whole).quantize(Decimal("0.1"), ROUND_HALF_EVEN),
}


def unproved(asked: str, answered: Answered) -> list[str]:
    """The figures of an answer that are neither in a result, nor in the question, nor an exact operation on these."""
    found = [leaf for result in answered.evidence.results for leaf in leaves(result.content)]
    numbers = {abs(n) for _, value in found if (n := as_number(value)) is not None}
    numbers |= {Decimal(text.replace(",", "")) for text in _NUMBER.findall(asked)} | {Decimal(0), Decimal(1)}
    lists = [
        value for result in answered.evidence.results for value in result.content.values() if isinstance(value, list)
    ]
    counts = {Decimal(n) for some in lists for n in range(len(some) + 1)}
    percents = set[Decimal]()
    for step in answered.evidence.derived:
        if step.operation == "count":
            assert step.value in counts
        else:
            assert {abs(one) for one in step.inputs} <= numbers, step
            assert step.value == OPERATIONS[step.operation](*step.inputs), step
        (percents if step.operation == "share" else numbers).add(abs(step.value))
    names = [leaf for result in answered.evidence.results for leaf in leaves(result.arguments)]
    texts = [value for _, value in (*found, *names) if isinstance(value, str) and as_number(value) is None]
    moments = set[str]()
    for text in texts:
        with contextlib.suppress(ValueError):
            moments.add(f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M}")
    rest = answered.content
    missing = [moment for moment in _MOMENT.findall(rest) if moment not in moments]
    rest = _MOMENT.sub(" ", rest)
    # Names, and sentences of the service itself, stand there word for word.
    for text in sorted({*texts, *re.findall(r'"([^"]+)"', rest)}, key=len, reverse=True):
        rest = rest.replace(text, " ")
    for match in re.finditer(r"(\d[\d,]*(?:\.\d+)?)( %)?", rest):
        value = Decimal(match.group(1).replace(",", ""))
        if value not in (percents if match.group(2) else numbers):
            missing.append(match.group())
    return missing


async def chance(books: Books, seed: int) -> list[str]:
    """Random books; gives the components."""
    rng = random.Random(seed)
    components = rng.sample(["rhetor", "codex", "ergon", "apollo-7", "team 42", "h2"], 4)
    models = [("openai", "gpt-4o"), ("openai", "gpt-4o-mini"), ("anthropic", "claude-3-opus"), ("x", "house-model-3")]
    await books.limit(rng.randrange(1, 9) * USD // 8, name="daily")
    await books.limit(rng.randrange(1, 999) * USD, name="monthly", period=Period.MONTHLY, policy=Policy.WARN)
    await books.limit(rng.randrange(5, 60), name="calls-5", unit=Unit.REQUESTS, scope={"component": components[0]})
    await books.limit(
        rng.randrange(10_000, 90_000), name="tokens", unit=Unit.TOKENS, scope={"component": components[1]}
    )
    events = []
    for _ in range(60):
        provider, model = rng.choice(models)
        at = NOW - timedelta(minutes=rng.choice([rng.randrange(1, 700), rng.randrange(1, 60_000)]))
        events.append(usage(
            component=rng.choice(components), provider=provider, model=model, occurred_at=at.isoformat(),
            input_tokens=rng.randrange(1, 5000), output_tokens=rng.randrange(0, 900),
            user=rng.choice(["ann", "bob2", None]),
        ))  # fmt: skip
    await books.settle(*events)
    for tokens in (10, 500, 90_000, 300_000):
        await books.ask(check(component=rng.choice(components), estimated_tokens=tokens))
    return components


def _renamed(question: str, components: list[str]) -> str:
    for name, other in zip(("rhetor", "codex", "ergon"), components, strict=False):
        question = question.replace(name, other)
    return question


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_figure_of_every_answer_is_proved(books: Books, desk: Desk, seed: int) -> None:
    components = await chance(books, seed)
    said = 0
    for question in (question for question, *_ in ANSWERS):
        *before, text = _renamed(question, components).split(" | ")
        history = [{"role": "user", "content": one} for one in before]
        answered = await desk.ask(Chat.model_validate({"content": text, "history": history}))
        assert unproved(" ".join([*before, text]), answered) == [], (question, answered.content)
        said += len(_NUMBER.findall(answered.content))
    assert len(ANSWERS) >= 60
    assert said > 500


async def test_the_proof_sees_an_invented_figure(books: Books, desk: Desk) -> None:
    await scene(books)
    answered = await desk.ask(Chat(content="who spent most today?"))
    assert unproved("who spent most today?", answered) == []
    for wrong in ("0.0151 USD", "52.7 %", "2026-03-10 00:01 UTC", "8 calls"):
        assert unproved("", replace(answered, content=f"{answered.content} {wrong}")) != [], wrong


async def test_a_figure_that_no_tool_gave_cannot_be_written(desk: Desk) -> None:
    evidence = Evidence(Tools(Rest(desk.client)))
    evidence.add("get_usage", {}, {"cost": "1.5", "share_percent": "20", "at": "2026-03-10T00:00:00Z"})
    assert evidence.money("1.50", "USD") == "1.5 USD"
    assert evidence.number(evidence.product("1.5", "1.5")) == "2.25"
    for wrong in (
        lambda: evidence.money("1.6", "USD"), lambda: evidence.percent("1.5"), lambda: evidence.number(20),
        lambda: evidence.moment("2026-03-11T00:00:00Z"), lambda: evidence.product("1.5", "3"),
    ):  # fmt: skip
        with pytest.raises(AssertionError, match="is in no result"):
            wrong()
