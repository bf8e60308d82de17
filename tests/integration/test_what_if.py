"""What would have been: refusals and what they cost, calls that were denied, other models; over HTTP as well."""

from __future__ import annotations

import csv
import json
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from budget_bus.http.server import gateway, open_parts
from budget_bus.insight.replay import Outcome, Proposal, Swap, replay
from budget_bus.local.ports import free_port
from budget_bus.policy.budget import LimitSpec, Policy, Unit
from budget_bus.policy.scope import parse_scope
from budget_bus.policy.windows import Period
from budget_bus.producers.topics import apply_topics
from budget_bus.providers.prices import PriceBook
from budget_bus.settings import Settings
from tests.integration.books import BOUND, COST, USD, Books, check, usage
from tests.integration.budget_command import budget
from tests.integration.clock import NOON, Clock
from tests.integration.http_client import client_with

END = NOON + timedelta(days=1)
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ALL = parse_scope({})


def hard(limit: int, **fields: Any) -> LimitSpec:
    said: dict[str, Any] = {"unit": Unit.COST, "currency": "USD", "policy": Policy.HARD_LIMIT, **fields}
    return LimitSpec(name="proposed", scope=ALL, period=Period.DAILY, limit=limit, **said)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def books(pool: asyncpg.Pool, clock: Clock) -> Books:
    return Books(pool, clock=clock)


async def replayed(books: Books, **proposed: Any) -> Outcome:
    return await replay(books.pool, PriceBook(), start=NOON, end=END, proposal=Proposal(**proposed))


async def asked_and_used(books: Books, clock: Clock, times: int = 1) -> None:
    for _ in range(times):
        asked = check()
        await books.ask(asked)
        clock.turn(seconds=10)
        await books.settle(usage(request_id=asked["request_id"], occurred_at=clock().isoformat()))
        clock.turn(seconds=10)


async def test_what_a_limit_would_have_refused_when_and_at_what_cost(books: Books, clock: Clock) -> None:
    await asked_and_used(books, clock, 3)
    budget_id = uuid.uuid4()
    # The second call holds 0.01 beside the 0.0035 that the first has spent; the third would need 0.017.
    outcome = await replayed(books, limits={budget_id: hard(COST + BOUND)})
    found = outcome.budgets[budget_id]
    assert (found.refused, found.refused_nanos) == (1, COST)
    assert found.first_refused_at == NOON + timedelta(seconds=40)
    assert found.peak_percent == 100
    assert found.exhausted[0][1] == NOON + timedelta(seconds=20)
    assert (outcome.total.actual.cost_nanos, outcome.total.simulated.cost_nanos) == (3 * COST, 2 * COST)
    assert (outcome.total.refused.requests, outcome.total.saved_nanos) == (1, COST)
    assert (outcome.checks.decided, outcome.checks.identical, outcome.checks.refused) == (3, 2, 1)
    assert [(refusal.component, refusal.budget) for refusal in outcome.refusals] == [("rhetor", "proposed")]


async def test_a_call_that_was_denied_is_assumed_to_use_what_it_asked_for(books: Books, clock: Clock) -> None:
    limit = await books.limit(BOUND)
    await asked_and_used(books, clock)
    (denied,) = await books.ask(check())
    assert denied["action"] == "deny"
    outcome = await replayed(books, removed=frozenset({limit.budget_id}))
    assert (outcome.checks.allowed, outcome.assumed.cost_nanos) == (1, BOUND)
    assert outcome.total.simulated.cost_nanos == COST + BOUND
    raised = hard(5 * BOUND)
    assert (await replayed(books, limits={limit.budget_id: raised})).checks.allowed == 1
    assert (await replayed(books)).checks.identical == 2


async def test_a_budget_that_carries_over_may_have_no_window_yet_where_the_past_begins(
    books: Books, clock: Clock
) -> None:
    await asked_and_used(books, clock)
    carrying = await books.limit(10 * BOUND, rollover_cap=BOUND)
    outcome = await replayed(books)
    assert (outcome.checks.decided, outcome.checks.identical) == (1, 1)
    earlier = await replay(
        books.pool, PriceBook(), start=NOON - timedelta(days=9), end=NOON - timedelta(days=8), proposal=Proposal()
    )
    assert (earlier.checks.decided, earlier.budgets[carrying.budget_id].refused) == (0, 0)


async def test_usage_that_never_asked_is_spent_unless_all_are_to_ask(books: Books, clock: Clock) -> None:
    for _ in range(3):
        await books.settle(usage(occurred_at=clock().isoformat()))
        clock.turn(seconds=10)
    budget_id = uuid.uuid4()
    proposed = {budget_id: hard(2 * COST)}
    outcome = await replayed(books, limits=proposed)
    assert (outcome.total.simulated.requests, outcome.budgets[budget_id].peak_percent) == (3, 150)
    asked = await replayed(books, limits=proposed, ask_unchecked=True)
    assert (asked.total.simulated.requests, asked.budgets[budget_id].refused) == (2, 1)
    assert asked.budgets[budget_id].refused_nanos == COST
    assert asked.budgets[budget_id].first_refused_at == NOON + timedelta(seconds=20)


async def test_a_cheaper_model_holds_and_costs_less(books: Books, clock: Clock) -> None:
    limit = await books.limit(BOUND + COST - 1)
    await asked_and_used(books, clock)
    (denied,) = await books.ask(check())
    assert denied["action"] == "deny"
    outcome = await replayed(books, swaps=(Swap(ALL, "openai", "gpt-4o-mini"),))
    # 1,000 tokens at the dearest rate of gpt-4o-mini, 0.60 USD per million.
    assert (outcome.checks.allowed, outcome.assumed.cost_nanos) == (1, 600_000)
    assert outcome.total.simulated.cost_nanos == 210_000 + 600_000
    assert outcome.budgets[limit.budget_id].refused == 0


async def test_a_denial_that_no_balance_explains_stays_and_one_without_its_question_is_counted(
    books: Books, clock: Clock
) -> None:
    await books.limit(BOUND)
    await asked_and_used(books, clock)
    await books.ask(check())
    await books.pool.execute("UPDATE decision SET asked = NULL WHERE action = 'deny'")
    checks = (await replayed(books)).checks
    assert (checks.decided, checks.identical, checks.not_replayable) == (1, 1, 1)
    await books.pool.execute(
        'UPDATE decision SET asked = \'{"tier": "remote", "tokens": 1, "currency": "USD"}\','
        " answer = replace(answer, '\"reason\":\"', '\"reason\":\"paused: ') WHERE action = 'deny'"
    )
    assert (await replayed(books)).checks.taken_over == 1


@pytest.mark.parametrize(("name", "nanos"), [("code", 47_608_895_000), ("conv", 96_791_325_000)])
async def test_a_real_trace_costs_what_it_cost(books: Books, clock: Clock, name: str, nanos: int) -> None:
    path = DATA / f"AzureLLMInferenceTrace_{name}.csv"
    if not path.exists():
        pytest.skip(f"the real traces are not there: {path}")
    keeper, events = books.settler(), []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            at = row["TIMESTAMP"][:26] + "+00:00"
            counts = {"input_tokens": int(row["ContextTokens"]), "output_tokens": int(row["GeneratedTokens"])}
            events.append(usage(occurred_at=at, component=name, **counts))
    for at in range(0, len(events), 1000):
        await books.settle(*events[at : at + 1000], by=keeper)
    start = NOON.replace(year=2023, month=11, day=16, hour=0)
    proposed = {uuid.uuid4(): hard(40 * USD)}
    for limits, asks in (({}, False), (proposed, True)):
        proposal = Proposal(limits=limits, ask_unchecked=asks)
        outcome = await replay(books.pool, PriceBook(), start=start, end=start + timedelta(days=1), proposal=proposal)
        assert outcome.total.actual.cost_nanos == nanos
        assert outcome.total.simulated.cost_nanos + outcome.total.refused.cost_nanos == nanos
    assert 39 * USD < outcome.total.simulated.cost_nanos <= 40 * USD


RANGE = {"start": NOON.isoformat(), "end": END.isoformat()}


async def test_over_http(books: Books, clock: Clock, client: httpx2.AsyncClient) -> None:
    await asked_and_used(books, clock, 3)
    limit = {"period": "daily", "limit": "0.0135", "policy": "HARD_LIMIT"}
    answer = await client.post("/api/simulate", json={**RANGE, "limits": [limit]})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["total"]["actual"]["cost"], told["total"]["simulated"]["cost"]) == ("0.0105", "0.007")
    assert told["budgets"][0]["refused"] == told["refusal_count"] == 1
    as_it_was = (await client.post("/api/simulate", json=RANGE)).json()
    assert (as_it_was["checks"]["identical"], as_it_was["checks"]["decided"]) == (3, 3)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"end": RANGE["start"]}, (422, "start")),
        ({"swaps": [{"provider": "openai", "model": "no-such-model"}]}, (422, "has no price")),
        ({"changes": [{"budget_id": str(uuid.UUID(int=1)), "limit": 1}]}, (404, "no budget")),
        ({"removed": [str(uuid.UUID(int=1))]}, (404, "no budget")),
        ({"caching": [{"read_percent": 60, "write_percent": 60}]}, (422, "more than 100")),
        ({"limits": [{"period": "daily", "limit": 1, "polcy": "WARN"}]}, (422, "polcy")),
        ({"limits": [{"percent": 30, "parent": str(uuid.UUID(int=1))}]}, (422, "not in force")),
    ],
)
async def test_what_cannot_be_simulated_is_said(
    books: Books, clock: Clock, client: httpx2.AsyncClient, body: dict[str, Any], said: tuple[int, str]
) -> None:
    await asked_and_used(books, clock)
    answer = await client.post("/api/simulate", json={**RANGE, **body})
    assert answer.status_code == said[0], answer.text
    assert said[1] in answer.text


async def test_one_at_a_time(kafka: str, settings: Settings) -> None:
    await apply_topics(settings)
    async with open_parts(settings) as parts, parts.simulating, client_with(parts) as client:
        answer = await client.post("/api/simulate", json=RANGE)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


async def test_by_the_command(books: Books, clock: Clock, kafka: str, settings: Settings) -> None:
    await apply_topics(settings)
    await asked_and_used(books, clock, 3)
    here = settings.model_copy(update={"port": free_port()})
    when = ("--from", RANGE["start"], "--to", RANGE["end"])
    async with gateway(here):
        said = await budget(here, "simulate", *when, "--limit", "daily=0.0135", "--policy", "HARD_LIMIT")
        assert "1 were allowed and would be refused" in said.out
        told = await budget(here, "simulate", *when, "--swap", "openai/gpt-4o=openai/gpt-4o-mini", "--format", "json")
        assert told.json["total"]["simulated"]["cost"] == "0.00063"
        priced = await budget(here, "simulate", *when, "--price", "openai/gpt-4o:input=1,output=2", "--format", "csv")
        assert "simulated,3,3000,300,0.0036,USD,0" in priced.out
        wrong = await budget(here, "simulate", *when, "--swap", "gpt-4o", code=2)
        assert "write for example" in wrong.err
        unknown = await budget(here, "simulate", *when, "--limit", "nonesuch=1", code=2)
        assert "neither a budget nor a period" in unknown.err


async def test_all_that_the_api_takes_the_command_takes(
    books: Books, clock: Clock, kafka: str, settings: Settings
) -> None:
    await apply_topics(settings)
    await asked_and_used(books, clock, 3)
    here = settings.model_copy(update={"port": free_port()})
    when = ("--from", RANGE["start"], "--to", RANGE["end"])
    batch, of = {"service_tier": "batch"}, {"provider": "openai", "model": "gpt-4o"}
    price = "openai/gpt-4o:service_tier=batch,input=1.25,output=5"
    # 1,000 + 100 tokens at 2.5 and 10 dollars; half of that in a batch, and half for input that is read from a cache.
    proposals: list[tuple[list[str], dict[str, Any], str]] = [
        (
            ["--service-tier", "batch", "--price", price],
            {"tiers": [batch], "prices": [{**of, **batch, "input": 1.25, "output": 5}]},
            "0.00525",
        ),
        (
            ["--service-tier", "openai/gpt-4o=batch", "--price", price, "--component", "nobody"],
            {"tiers": [{**batch, "scope": {**of, "component": ["nobody"]}}]},
            "0.0105",
        ),
        (["--caching", "60"], {"caching": [{"read_percent": 60}]}, "0.00825"),
        (
            ["--caching", "openai/gpt-4o=40,10"],
            {"caching": [{"scope": of, "read_percent": 40, "write_percent": 10}]},
            "0.009",
        ),
    ]
    file = settings.data_dir / "proposal.json"
    async with gateway(here), httpx2.AsyncClient(base_url=f"http://127.0.0.1:{here.port}") as client:
        for flags, body, cost in proposals:
            told = (await budget(here, "simulate", *when, *flags, "--format", "json")).json
            assert told == (await client.post("/api/simulate", json={**RANGE, **body})).json(), flags
            assert told["total"]["simulated"]["cost"] == cost
            file.write_text(json.dumps(body))
            assert (await budget(here, "simulate", *when, "--body", file, "--format", "json")).json == told
        file.write_text(json.dumps({**RANGE, "if_all_asked": True}))
        assert "3 of 3 decisions" in (await budget(here, "simulate", "--body", file)).out
        file.write_text(json.dumps({**RANGE, "tires": []}))
        assert "tires" in (await budget(here, "simulate", "--body", file, code=1)).err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--to", "2026-01-01"], "--from", id="no begin"),
        pytest.param(["--caching", "much"], "openai/gpt-4o=60,5", id="a part in words"),
        pytest.param(["--service-tier", "gpt-4o=batch"], "names no model", id="a model without its provider"),
        pytest.param(["--body", "nowhere.json"], "cannot read nowhere.json", id="no file"),
        pytest.param(["--body", "list.json"], "no JSON object", id="a list"),
        pytest.param(["--body", "half.json"], "is no JSON", id="half of it"),
        pytest.param(["--body", "list.json", "--if-all-asked"], "the whole proposal", id="two proposals"),
    ],
)
async def test_a_proposal_that_is_not_understood_ends_with_2(
    settings: Settings, arguments: list[str], says: str
) -> None:
    (settings.data_dir / "list.json").write_text("[]")
    (settings.data_dir / "half.json").write_text('{"start": ')
    assert says in (await budget(settings, "simulate", *arguments, code=2)).err
