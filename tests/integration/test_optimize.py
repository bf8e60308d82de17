"""POST /api/optimize: what each suggestion saves is what two replays differ by, and what it says to do can be done."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from budget_bus.errors import Rejected
from budget_bus.http.server import open_parts
from budget_bus.insight.optimising import cheaper
from budget_bus.insight.optimising.optimise import Advice, Goal, Wish, optimise
from budget_bus.insight.replay import Proposal, replay
from budget_bus.money import format_nanos
from budget_bus.policy.pricing import Tokens, cost_of
from budget_bus.producers.topics import apply_topics
from budget_bus.providers.prices import PriceBook
from budget_bus.settings import Settings
from budget_bus.store import config, prices
from tests.integration.books import BOUND, COST, USD, Books, check, usage
from tests.integration.clock import NOON, Clock
from tests.integration.http_client import client_with

MINI = 210_000  # nanos of one `usage()` with gpt-4o-mini: 0.15 and 0.60 dollars per million
GROUP = ["openai/gpt-4o", "openai/gpt-4o-mini"]
DAY = timedelta(days=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def books(pool: asyncpg.Pool, clock: Clock) -> Books:
    return Books(pool, clock=clock)


async def used(books: Books, clock: Clock, **fields: Any) -> None:
    """One call, and a second later."""
    await books.settle(usage(occurred_at=clock().isoformat(), **fields))
    clock.turn(seconds=1)


async def advised(books: Books, clock: Clock, **wish: Any) -> Advice:
    span = {"start": clock() - 30 * DAY, "end": clock()}
    return await optimise(books.pool, PriceBook(), **span, wish=Wish(**wish))


async def cost(books: Books, clock: Clock, proposal: Proposal) -> int:
    """What a replay of the same span comes to."""
    outcome = await replay(
        books.pool, PriceBook(), start=clock() - 30 * DAY, end=clock(), proposal=proposal
    )  # fmt: skip
    return outcome.total.simulated.cost_nanos


async def assert_two_replays_differ_by_it(books: Books, clock: Clock, advice: Advice) -> None:
    as_it_was = await cost(books, clock, Proposal())
    for one in advice.suggestions:
        assert one.saving == as_it_was - await cost(books, clock, one.proposal), one.title
    assert advice.total_saving == as_it_was - await cost(books, clock, cheaper.combined(advice.cheaper))


async def conversation(books: Books, clock: Clock, name: str, **fields: Any) -> None:
    """Three calls in a minute, of 5,000, 6,000 and 7,000 tokens of input."""
    for tokens in (5000, 6000, 7000):
        await used(books, clock, context_id=name, input_tokens=tokens, **fields)


async def halve_the_batch_price(books: Books) -> None:
    """Of gpt-4o, which is 2.50 and 10.00 dollars per million."""
    rates = {"input": [1_250_000, []], "output": [5_000_000, []]}
    await prices.set_price(
        books.pool, "openai", "gpt-4o", rates, effective_from=NOON - 60 * DAY, actor="test", service_tier="batch"
    )


async def test_every_saving_is_the_difference_of_two_replays(books: Books, clock: Clock) -> None:
    await config.set_value(books.pool, "equivalents", [[*GROUP, "anthropic/claude-sonnet-4-5"]], actor="test")
    await halve_the_batch_price(books)
    for n in range(7):
        await used(books, clock, task_type="chat", input_tokens=1000 + n)
        await used(books, clock, component="codex", task_type="review", input_tokens=333 + n)
        await used(books, clock, component="codex", provider="anthropic", model="claude-sonnet-4-5")
    for name in ("a", "b"):
        await conversation(books, clock, name, component="ergon", task_type="plan")
        await conversation(books, clock, name, component="ergon", provider="anthropic", model="claude-sonnet-4-5")
    await used(books, clock, model="no-such-model")
    clock.turn(minutes=1)
    advice = await advised(books, clock, deferrable=["review"])
    assert {one.kind.value for one in advice.suggestions} == {"cheaper_model", "prompt_caching", "batch_tier"}
    assert 0 < advice.total_saving < sum(one.saving for one in advice.suggestions)
    assert advice.total_cost == await cost(books, clock, Proposal())
    await assert_two_replays_differ_by_it(books, clock, advice)


async def test_post_simulate_shows_every_saving(books: Books, clock: Clock, client: httpx2.AsyncClient) -> None:
    await config.set_value(books.pool, "equivalents", [GROUP], actor="test")
    await halve_the_batch_price(books)
    parent = await books.limit(4 * BOUND, name="all")
    for name in ("codex", "rhetor"):
        half = {"parent_id": parent.budget_id, "percent": Decimal(50)}
        await books.limit(0, name=name, scope={"component": name}, **half)
    await books.limit(2 * BOUND, name="penia", scope={"component": "penia"})
    await refused_day(books, clock, component="codex")
    clock.turn(days=1)
    await refused_day(books, clock, component="penia")
    await conversation(books, clock, "a", component="ergon", task_type="nightly")
    clock.turn(days=1)
    advice = (await client.post("/api/optimize", json={"deferrable": ["nightly"]})).json()
    assert {one["kind"] for one in advice["suggestions"]} == {
        "cheaper_model", "prompt_caching", "batch_tier", "reallocation", "raise_limit",
    }  # fmt: skip
    span = {"start": advice["window_start"], "end": advice["window_end"]}

    async def simulated(body: dict[str, Any]) -> Decimal:
        answer = await client.post("/api/simulate", json=body)
        assert answer.status_code == 200, answer.text
        return Decimal(answer.json()["total"]["simulated"]["cost"])

    as_it_was = await simulated(span)
    for one in advice["suggestions"]:
        assert Decimal(one["saving"]) == as_it_was - await simulated(one["simulate"]), one["title"]
    assert Decimal(advice["total_saving"]) == as_it_was - await simulated(advice["simulate"])


async def test_a_cheaper_model_is_suggested_per_component_and_task_type(books: Books, clock: Clock) -> None:
    await config.set_value(books.pool, "equivalents", [GROUP], actor="test")
    for fields in ({"task_type": "chat"}, {"task_type": "chat"}, {"task_type": "code"}, {}):
        await used(books, clock, **fields)
    advice = await advised(books, clock)
    assert [(one.scope.to_json().get("task_type"), one.saving) for one in advice.suggestions] == [
        ("chat", 2 * (COST - MINI)),
        ("code", COST - MINI),
        ({"not": ["chat", "code"]}, COST - MINI),
    ]
    assert advice.total_saving == 4 * (COST - MINI)


async def test_without_equivalents_no_model_is_suggested_unless_whoever_asks_names_it(
    books: Books, clock: Clock
) -> None:
    await used(books, clock)
    advice = await advised(books, clock)
    assert advice.suggestions == []
    assert "budget config set equivalents" in advice.notes[0]
    (one,) = (await advised(books, clock, also_consider=[GROUP])).suggestions
    assert one.saving == COST - MINI
    assert one.assumption.startswith("You trade quality for it")


async def test_of_several_cheaper_models_the_cheapest_is_suggested_once(books: Books, clock: Clock) -> None:
    await config.set_value(books.pool, "equivalents", [[*GROUP, "openai/gpt-4.1-nano"]], actor="test")
    await used(books, clock)
    (one,) = (await advised(books, clock)).suggestions
    assert one.title == "rhetor: openai/gpt-4.1-nano instead of openai/gpt-4o"


async def test_a_model_without_a_price_is_not_suggested(books: Books, clock: Clock) -> None:
    await config.set_value(books.pool, "equivalents", [["openai/gpt-4o", "openai/no-such-model"]], actor="test")
    await used(books, clock)
    assert (await advised(books, clock)).suggestions == []


async def test_caching_counts_what_is_written_as_well_as_what_is_read(books: Books, clock: Clock) -> None:
    sonnet = {"provider": "anthropic", "model": "claude-sonnet-4-5"}
    for name in ("a", "b"):
        await conversation(books, clock, name, **sonnet)
    (one,) = (await advised(books, clock)).suggestions
    # In each context the smallest call has 5,000 of 18,000 tokens: once written, twice read.
    (cached,) = one.proposal.caching
    assert (cached.read_percent, cached.write_percent) == (55, 28)
    price = PriceBook().price(**sonnet, at=clock())
    assert price is not None
    saving = 0
    for tokens in (5000, 6000, 7000):
        plain = Tokens(tokens, 100)
        read_and_written = plain._replace(cache_read=tokens * 55 // 100, cache_creation=tokens * 28 // 100)
        saving += 2 * (cost_of(plain, price).total - cost_of(read_and_written, price).total)
    assert one.saving == saving > 0


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"cache_read_input_tokens": 500}, id="what is cached already"),
        pytest.param({"provider": "groq", "model": "llama-3.1-8b-instant"}, id="a model whose cache has no price"),
    ],
)
async def test_no_caching_is_suggested_for(books: Books, clock: Clock, fields: dict[str, Any]) -> None:
    await conversation(books, clock, "a", **fields)
    assert (await advised(books, clock)).suggestions == []


async def test_no_caching_is_suggested_for_calls_that_are_too_far_apart_or_too_small(
    books: Books, clock: Clock
) -> None:
    for _ in range(3):
        await used(books, clock, context_id="slow", input_tokens=9000)
        for _ in range(2):
            await used(books, clock, context_id="small", input_tokens=4000, component="codex")
        clock.turn(minutes=6)
    assert (await advised(books, clock)).suggestions == []


async def test_the_batch_tier_is_suggested_for_what_can_wait(books: Books, clock: Clock) -> None:
    await halve_the_batch_price(books)
    await used(books, clock, task_type="nightly")
    await used(books, clock, task_type="chat")
    (one,) = (await advised(books, clock, deferrable=["nightly", "unheard-of"])).suggestions
    assert (one.kind.value, one.saving) == ("batch_tier", COST // 2)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"days": 0}, "days"),
        ({"days": "many"}, "days"),
        ({"goal": "fame"}, "goal"),
        ({"also_consider": [["openai/gpt-4o"]]}, "also_consider"),
        ({"also_consider": ["gpt-4o"]}, "also_consider.0"),
        ({"deferrable": [""]}, "deferrable.0"),
        ({"dayz": 3}, "dayz"),
    ],
)
async def test_what_is_wrong_is_named(client: httpx2.AsyncClient, body: dict[str, Any], field: str) -> None:
    answer = await client.post("/api/optimize", json=body)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, [field])


async def test_only_one_question_is_worked_on_at_a_time(kafka: str, settings: Settings, clock: Clock) -> None:
    await apply_topics(settings)
    async with open_parts(settings) as parts, client_with(replace(parts, now=clock)) as client:
        async with parts.simulating:
            busy = await client.post("/api/optimize")
        assert (busy.status_code, busy.headers["retry-after"]) == (429, "5")
        assert (await client.post("/api/optimize")).status_code == 200


async def test_more_calls_than_can_be_replayed_are_refused(
    books: Books, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budget_bus.insight.optimising.optimise.MAX_ROWS", 1)
    await used(books, clock)
    assert (await advised(books, clock)).total_cost == COST
    await used(books, clock)
    with pytest.raises(Rejected, match="days: span 2 calls, of which at most 1 are replayed at once"):
        await advised(books, clock)


async def test_nothing_recorded_gives_an_empty_list_that_says_why(client: httpx2.AsyncClient) -> None:
    answer = (await client.post("/api/optimize", json={})).json()
    assert (answer["suggestions"], answer["total_saving"], answer["currency"]) == ([], "0", "USD")
    assert answer["detail"] == "Nothing was recorded in these 30 days, so there is nothing to go by."


async def refused_day(books: Books, clock: Clock, *, component: str = "rhetor") -> None:
    """A day on which a budget of 0.02 dollars admits two checks and refuses a third; what was held is used."""
    answers = await books.ask(*(check(component=component) for _ in range(3)))
    assert [answer["allowed"] for answer in answers] == [True, True, False]
    for answer in answers[:2]:
        event = usage(component=component, request_id=answer["request_id"], occurred_at=clock().isoformat())
        await books.settle(event)


async def test_a_limit_that_refused_calls_is_raised_to_what_was_asked_for(books: Books, clock: Clock) -> None:
    budget = await books.limit(2 * BOUND)
    for _ in range(2):
        await refused_day(books, clock)
        clock.turn(days=1)
    (one,) = (await advised(books, clock, goal=Goal.CAPACITY)).suggestions
    # Each day used two calls of 0.0035 dollars and was refused one of at most 0.01: 0.017, less than there is.
    assert one.proposal.limits[budget.budget_id].limit > budget.spec.limit
    assert "2 checks in 2 windows, of at most 0.02 USD" in one.detail
    # Each day a third call of at most 0.01 dollars would have been made.
    assert one.saving == -2 * BOUND
    assert "Replayed, 2 checks that were denied are allowed, and 0 that were allowed are denied." in one.detail


async def test_a_saving_counts_the_calls_that_a_cheaper_model_lets_pass(books: Books, clock: Clock) -> None:
    await config.set_value(books.pool, "equivalents", [GROUP], actor="test")
    await books.limit(2 * BOUND)
    await refused_day(books, clock)
    clock.turn(days=1)
    advice = await advised(books, clock)
    swap = next(one for one in advice.suggestions if one.kind.value == "cheaper_model")
    assert 0 < swap.saving < 2 * (COST - MINI)
    assert {one.kind.value for one in advice.suggestions} == {"cheaper_model", "raise_limit"}
    await assert_two_replays_differ_by_it(books, clock, advice)


async def test_an_allocation_that_refused_calls_gets_what_another_did_not_need(books: Books, clock: Clock) -> None:
    parent = await books.limit(4 * BOUND, name="all")
    half = {"parent_id": parent.budget_id, "percent": Decimal(50)}
    codex = await books.limit(0, name="codex", scope={"component": "codex"}, **half)
    rhetor = await books.limit(0, name="rhetor", scope={"component": "rhetor"}, **half)
    await refused_day(books, clock, component="codex")
    await books.settle(usage(component="rhetor", occurred_at=clock().isoformat()))
    clock.turn(days=1)
    (one,) = (await advised(books, clock, goal=Goal.CAPACITY)).suggestions
    # Asked: 0.03 of codex at most at once. Of 0.04 dollars rhetor used 0.0035, and keeps half of what it has.
    assert {key: spec.percent for key, spec in one.proposal.limits.items()} == {
        codex.budget_id: Decimal(75),
        rhetor.budget_id: Decimal(25),
    }
    assert "One more USD a day for codex is worth 1.00 USD a day of calls that are refused today" in one.detail
    assert "One more USD a day for rhetor is worth nothing" in one.detail
    assert one.saving == -BOUND
    await assert_two_replays_differ_by_it(books, clock, await advised(books, clock))


async def test_a_limit_that_was_never_needed_is_lowered_and_saves_nothing(books: Books, clock: Clock) -> None:
    await books.limit(USD)
    for _ in range(3):
        await used(books, clock)
        clock.turn(days=1)
    (one,) = (await advised(books, clock, goal=Goal.CAPACITY)).suggestions
    assert (one.title, one.saving) == ("Lower 'daily' from 1 to 0.0044 USD", 0)
    assert "In 3 windows it took at most 0.0035 USD" in one.detail


TRACES = Path(__file__).parents[3] / "shared" / "data"


async def traced(books: Books, component: str) -> tuple[int, int]:
    """Import a real trace as calls of gpt-4o; its tokens of input and of output."""
    with (TRACES / f"AzureLLMInferenceTrace_{component}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    events = [
        usage(
            component=component, task_type="chat" if component == "conv" else None,
            occurred_at=f"{row['TIMESTAMP'][:26].replace(' ', 'T')}Z",
            input_tokens=int(row["ContextTokens"]), output_tokens=int(row["GeneratedTokens"]),
        )
        for row in rows
    ]  # fmt: skip
    for first in range(0, len(events), 1000):
        await books.settle(*events[first : first + 1000])
    return sum(int(row["ContextTokens"]) for row in rows), sum(int(row["GeneratedTokens"]) for row in rows)


@pytest.mark.skipif(not TRACES.is_dir(), reason="the real traces are not beside the checkout, in ../shared/data")
async def test_real_traffic_saves_what_its_tokens_say(books: Books, clock: Clock) -> None:
    clock.at = datetime(2023, 11, 17, tzinfo=UTC)
    await config.set_value(books.pool, "equivalents", [GROUP], actor="test")
    tokens = {component: await traced(books, component) for component in ("code", "conv")}
    advice = await advised(books, clock)
    assert advice.total_cost == 47_608_895_000 + 96_791_325_000
    # Per token 2,500 and 10,000 nanos with gpt-4o, 150 and 600 with gpt-4o-mini.
    expected = {name: 2_350 * read + 9_400 * written for name, (read, written) in tokens.items()}
    assert {one.scope.to_json()["component"]: one.saving for one in advice.suggestions} == expected
    assert advice.total_saving == sum(expected.values())
    for one in advice.suggestions:
        print(f"{format_nanos(one.saving)} of {format_nanos(advice.total_cost)} USD: {one.title}")
