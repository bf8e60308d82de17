"""
A limit for exactly 100 calls stays one for exactly 100 calls: 1,000 checks at once, through three gateways and over
topics, by two deciders that are killed with -9 meanwhile.

Everything is a process of its own. Triggers in the database write down every state that a balance ever had, and let a
decider be killed while its COMMIT is under way: the hardest moment, since the hold is placed and nobody is told.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from budget_bus.errors import BudgetUnavailable
from budget_bus.events.checks import CheckResponse
from budget_bus.events.topics import CHECK_REQUESTED
from budget_bus.local.ports import free_port
from budget_bus.policy.budget import Budget, LimitSpec, Policy, Unit
from budget_bus.policy.scope import parse_scope
from budget_bus.policy.windows import Period
from budget_bus.producers import BudgetBus
from budget_bus.store.limits import set_limit
from tests.integration.books import BOUND, COST, check, usage
from tests.integration.budget_command import budget
from tests.integration.processes import Roles, installation, until

GATEWAYS = ("gateway-1", "gateway-2", "gateway-3")
DECIDERS = ("decider-1", "decider-2")
CALLS, CHECKS = 100, 1000
EACH = {Unit.COST: BOUND, Unit.TOKENS: 1000, Unit.REQUESTS: 1}  # what one `check()` holds
WATCH = """
CREATE TABLE balance_state (budget_id uuid NOT NULL, committed bigint NOT NULL);
CREATE FUNCTION watch_balance() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO balance_state VALUES (NEW.budget_id, NEW.spent + NEW.held + NEW.unconfirmed); RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER INSERT OR UPDATE ON balance FOR EACH ROW EXECUTE FUNCTION watch_balance();
CREATE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_advisory_xact_lock_shared(7001); RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON decision DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION pass_gate();
"""
GATE = 7001  # who has this lock keeps every commit of decisions waiting

Ask = Callable[[dict[str, Any]], Awaitable[CheckResponse | None]]


@dataclass(frozen=True)
class Answered:
    """What an asker was told, how often it had to ask, and when it did so last."""

    question: dict[str, Any]
    answer: CheckResponse
    times: int
    asked_at: datetime


@dataclass
class Service:
    """The running installation and the four doors to it."""

    roles: Roles
    bus: BudgetBus
    gateways: list[httpx2.AsyncClient]
    _random: random.Random = field(default_factory=lambda: random.Random(100))
    _victims: Iterator[str] = field(default_factory=lambda: itertools.cycle(DECIDERS))

    async def limit(self, calls: int, unit: Unit, scope: dict[str, Any], **fields: Any) -> Budget:
        """A hard budget for *calls* questions as `check()` asks them, in a window that does not end during the test."""
        hour = datetime.now(UTC).hour
        fields = {"name": f"{calls} calls", "period": Period.MONTHLY, "timezone": f"Etc/GMT{hour - 12:+d}", **fields}
        spec = LimitSpec(
            scope=parse_scope(scope),
            unit=unit,
            limit=calls * EACH[unit],
            currency="USD" if unit is Unit.COST else None,
            policy=Policy.HARD_LIMIT,
            **fields,
        )
        return (await set_limit(self.roles.pool, spec, actor="test"))[0]

    async def over_topics(self, question: dict[str, Any]) -> CheckResponse | None:
        try:
            answer = await self.bus.check(**question)
        except BudgetUnavailable:
            return None
        return None if answer.reason == "expired" else answer

    async def over_rest(self, gateway: httpx2.AsyncClient, question: dict[str, Any]) -> CheckResponse | None:
        response = await gateway.post("/api/check", json=question)
        if response.status_code in (503, 504):
            return None
        assert response.status_code == 200, response.text
        answer = CheckResponse.model_validate_json(response.content)
        return None if answer.reason == "expired" else answer

    def doors(self, number: int) -> Iterator[Ask]:
        """Where asker *number* asks: every second one over topics, the others at one gateway after the other."""
        if number % 2:
            return itertools.repeat(self.over_topics)
        ways = [lambda question, gateway=gateway: self.over_rest(gateway, question) for gateway in self.gateways]
        return itertools.islice(itertools.cycle(ways), number // 2 % 3, None)

    async def ask(self, number: int, question: dict[str, Any]) -> Answered:
        """Ask as a user does: when no answer comes, the same question again, until there is one."""
        for times, door in enumerate(self.doors(number), start=1):
            asked_at = datetime.now(UTC)
            answer = await door(question)
            if answer is not None:
                return Answered(question, answer, times, asked_at)
        raise AssertionError("unreachable: doors do not end")

    @asynccontextmanager
    async def gate(self) -> AsyncIterator[tuple[str, str]]:
        """
        Keep every COMMIT of decisions waiting during the body.

        Yields who waits at its commit, and who waits for a balance that the first one has locked.
        """
        async with self.roles.pool.acquire() as connection:
            await connection.execute("SELECT pg_advisory_lock($1)", GATE)
            yield await until(self._waiting)
            await connection.execute("SELECT pg_advisory_unlock($1)", GATE)

    async def _waiting(self) -> tuple[str, str] | None:
        rows = await self.roles.pool.fetch(
            "SELECT application_name, wait_event FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        )
        waits = {row["application_name"]: row["wait_event"] for row in rows}
        for one, other in (DECIDERS, reversed(DECIDERS)):
            at = [waits.get(f"budget_bus.{self.roles.instance(name)}") for name in (one, other)]
            if at[0] == "advisory" and at[1] in ("transactionid", "tuple"):
                return one, other
        return None

    async def kill_anywhere(self, over: asyncio.Event) -> None:
        """
        Kill a decider after a number of decisions, unless it is *over* before; the next life starts at once.

        Not before both own partitions again, so that it is a member of the group that dies and no newcomer.
        """
        await until(self.both_own, over)
        further = await self._decided() + self._random.randint(1, 100)
        await until(lambda: self._has_decided(further), over)
        if not over.is_set():
            await self.roles.restart(next(self._victims))

    async def both_own(self) -> bool:
        """Whether each decider, in its present life, owns partitions, and nobody else does."""
        return await self.roles.owners(CHECK_REQUESTED) == {self.roles.instance(name) for name in DECIDERS}

    async def _decided(self) -> int:
        return int(await self.roles.pool.fetchval("SELECT count(*) FROM decision"))

    async def _has_decided(self, count: int) -> bool:
        return await self._decided() >= count


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="budget-enforcement-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="module")
async def service(postgres_url: str, apache_kafka: str, directory: Path) -> AsyncIterator[Service]:
    async with AsyncExitStack() as stack:
        roles = await stack.enter_async_context(installation(postgres_url, apache_kafka, directory))
        await roles.pool.execute(WATCH)
        ports = [free_port() for _ in GATEWAYS]
        for name, port in zip(GATEWAYS, ports, strict=True):
            await roles.start(name, BUDGET_PORT=str(port))
        for name in ("settler", *DECIDERS):
            await roles.start(name)
        bus = await stack.enter_async_context(BudgetBus.from_settings(roles.settings))
        # Each question is a user's own: as many connections as questions, and none that was idle for too long.
        unbounded = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        gateways = [
            await stack.enter_async_context(
                httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60, limits=unbounded)
            )
            for port in ports
        ]
        with roles.explaining():
            for gateway in gateways:
                await until(functools.partial(_ready, gateway))
        yield Service(roles, bus, gateways)


async def _ready(gateway: httpx2.AsyncClient) -> bool:
    try:
        return (await gateway.get("/health/ready")).status_code == 200
    except httpx2.TransportError:
        return False


async def storm(
    service: Service, callers: Mapping[Unit, list[str]], kill: Callable[[Service], Awaitable[None]]
) -> dict[Unit, list[Answered]]:
    """1,000 askers for each unit, all at once, while *kill* kills a decider, and perhaps another one dies later."""
    over = asyncio.Event()

    async def kill_twice() -> None:
        await kill(service)
        await service.kill_anywhere(over)

    async def ask_all(components: list[str]) -> list[Answered]:
        questions = [check(component=components[i % len(components)], user=str(uuid4())) for i in range(CHECKS)]
        return await asyncio.gather(*(service.ask(i, question) for i, question in enumerate(questions)))

    with service.roles.explaining():
        await until(service.both_own)
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            group.create_task(kill_twice())
            answered = await asyncio.gather(*map(ask_all, callers.values()))
            over.set()
    assert any(one.times > 1 for some in answered for one in some), "nobody missed the decider"
    return dict(zip(callers, answered, strict=True))


async def kill_at_its_commit(service: Service) -> None:
    """The holds are placed, and nobody is told: who asks again must get the decision that was made."""
    async with service.gate() as (committing, _):
        await service.roles.restart(committing)


async def kill_after_they_met(service: Service) -> None:
    """Both decide about the same balance at the same time; then the one that had to wait dies, wherever it is."""
    async with service.gate() as (_, waiting):
        pass
    await service.roles.restart(waiting)


async def test_a_limit_for_100_calls_admits_exactly_100_of_1000(service: Service) -> None:
    callers = {unit: [f"flat-{unit}-{i}" for i in range(8)] for unit in Unit}
    tight = {unit: await service.limit(CALLS, unit, {"component": names}) for unit, names in callers.items()}
    answered = await storm(service, callers, kill_at_its_commit)
    told_again = [one for some in answered.values() for one in some if one.answer.decided_at < one.asked_at]
    assert told_again, "the killed decider's commit was not completed, or its answers were not lost"
    for unit in Unit:
        await assert_exactly(service, answered[unit], tight[unit])
    await assert_exact_books(service)


async def test_of_nested_limits_the_tightest_admits_exactly_100_of_1000(service: Service) -> None:
    callers = {unit: [f"nested-{unit}-{i}" for i in range(8)] for unit in Unit}
    for unit in Unit:
        await service.limit(10 * CHECKS, unit, {}, period=Period.TOTAL)
    nests = {unit: await nest(service, unit, components) for unit, components in callers.items()}
    answered = await storm(service, callers, kill_after_they_met)
    for unit, levels in nests.items():
        await assert_exactly(service, answered[unit], levels[0][0])
        for level in levels:
            held = [(await balance(service, budget))[1] for budget in level]
            assert sum(held) == CALLS * EACH[unit]
    await assert_exact_books(service)


async def nest(service: Service, unit: Unit, components: list[str]) -> list[list[Budget]]:
    """Limits over all of *components* in two periods, over each, and over each one's model. The first is tightest."""
    everyone = {"component": components}
    return [
        [await service.limit(CALLS, unit, everyone)],
        [await service.limit(CALLS + 20, unit, everyone, period=Period.DAILY)],
        [await service.limit(30, unit, {"component": name}, period=Period.DAILY) for name in components],
        [await service.limit(25, unit, {"component": name, "model": "gpt-4o"}) for name in components],
    ]


async def assert_exactly(service: Service, answered: list[Answered], tight: Budget) -> None:
    """Exactly 100 were admitted, one after the other, and nothing passed a limit at any moment."""
    unit, pool = tight.spec.unit, service.roles.pool
    assert sum(one.answer.allowed for one in answered) == CALLS
    request_ids = [UUID(one.question["request_id"]) for one in answered]
    states = await pool.fetch("SELECT state FROM hold WHERE request_id = ANY ($1)", request_ids)
    assert [row["state"] for row in states] == ["open"] * CALLS
    assert await balance(service, tight) == (0, CALLS * EACH[unit], 0)
    # Each admission saw all those before it: no two have found the same balance.
    admitted = [line(one.answer, tight).held for one in answered if one.answer.allowed]
    assert sorted(map(Decimal, admitted)) == [Decimal(tight.write(n * EACH[unit])) for n in range(1, CALLS + 1)]
    await assert_within_limits(service, answered)


async def assert_within_limits(service: Service, answered: list[Answered]) -> None:
    """What the deciders wrote down is within the hard limits, and it is what each asker was told and is told again."""
    pool = service.roles.pool
    request_ids = [UUID(one.question["request_id"]) for one in answered]
    rows = await pool.fetch("SELECT request_id, answer FROM decision WHERE request_id = ANY ($1)", request_ids)
    written = {row["request_id"]: CheckResponse.model_validate_json(row["answer"]) for row in rows}
    for decision in written.values():
        assert decision.budgets
        for of in decision.budgets:
            assert Decimal(of.spent) + Decimal(of.held) + Decimal(of.unconfirmed) <= Decimal(of.limit), of
    for one in answered:
        assert one.answer == written[one.answer.request_id]
    repeated = [one for one in answered if one.times > 1]
    again = await asyncio.gather(*(service.ask(n + 1, one.question) for n, one in enumerate(repeated[:50])))
    assert [one.answer for one in again] == [one.answer for one in repeated[:50]]


async def assert_exact_books(service: Service) -> None:
    """No balance was past its limit at any moment, and all of them are the sums of ledger and holds."""
    pool = service.roles.pool
    beyond = await pool.fetch(
        "SELECT s.*, b.limit_amount FROM balance_state s JOIN budget b USING (budget_id) WHERE committed > limit_amount"
    )
    assert beyond == []
    assert await pool.fetchval("SELECT count(*) FROM balance_state WHERE committed > 0") > 0
    await budget(service.roles.settings, "db", "check")


def line(answer: CheckResponse, of: Budget) -> Any:
    (found,) = [line for line in answer.budgets if line.budget_id == of.budget_id]
    return found


async def balance(service: Service, of: Budget) -> tuple[int, int, int]:
    row = await service.roles.pool.fetchrow("SELECT * FROM balance WHERE budget_id = $1", of.budget_id)
    return row["spent"], row["held"], row["unconfirmed"]


async def test_calls_are_settled_while_others_ask_and_what_they_left_over_is_admitted_again(service: Service) -> None:
    components = [f"settled-{i}" for i in range(8)]
    tight = await service.limit(CALLS, Unit.COST, {"component": components})
    over = asyncio.Event()

    async def work(number: int) -> list[Answered]:
        """Call after call, until the deciders were killed often enough and the limit is used up."""
        found: list[Answered] = []
        while not over.is_set() or found[-1].answer.allowed:
            component = components[number % len(components)]
            found.append(await service.ask(number, check(component=component, user=str(uuid4()))))
            if found[-1].answer.allowed:
                await service.bus.record(**usage(component=component, request_id=found[-1].question["request_id"]))
        return found

    with service.roles.explaining():
        await until(service.both_own)
        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            working = [group.create_task(work(number)) for number in range(40)]
            await kill_at_its_commit(service)
            await service.kill_anywhere(over)
            await until(service.both_own)
            over.set()
    answered = [one for task in working for one in task.result()]
    admitted = sum(one.answer.allowed for one in answered)
    await until(lambda: _settled(service, components, admitted))
    # The last one admitted found room for its bound beside all the others' actual costs.
    assert CALLS < admitted <= (CALLS * BOUND - BOUND) // COST + 1
    assert await balance(service, tight) == (admitted * COST, 0, 0)
    await assert_within_limits(service, answered)
    await assert_exact_books(service)


async def _settled(service: Service, components: list[str], count: int) -> bool:
    found = await service.roles.pool.fetchval("SELECT count(*) FROM ledger WHERE component = ANY ($1)", components)
    assert found <= count
    return bool(found == count)
