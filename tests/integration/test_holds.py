"""The ways a hold ends without usage: each hold ends once, in exactly one way, and the books say so."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from budget_bus import metrics
from budget_bus.consumers.holds import HoldKeeper
from budget_bus.events.facts import BudgetChanged
from budget_bus.events.topics import HOLD_EXTENDED, HOLD_RELEASED, USAGE_RECORDED
from budget_bus.policy.budget import Policy
from budget_bus.store import fence
from budget_bus.store.catalogue import Catalogue
from tests.integration.books import BOUND, COST, USD, Books, check, usage

LONG_AGO = "now() - interval '1 hour'"


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


@pytest.fixture
def keeper(pool: asyncpg.Pool) -> HoldKeeper:
    return HoldKeeper(pool, Catalogue(Policy.WARN))


async def _tell(books: Books, keeper: HoldKeeper, topic: str, *values: dict[str, Any]) -> None:
    batch = await books.batch(topic, values)
    await keeper.apply(batch, None)
    books.applied(batch)


def _released(asked: dict[str, Any]) -> dict[str, Any]:
    return {"request_id": asked["request_id"], "component": "rhetor", "reason": "never sent"}


async def _states(books: Books) -> list[str]:
    return [row["state"] for row in await books.pool.fetch("SELECT state FROM hold ORDER BY decided_at")]


async def _let_it_expire(books: Books) -> None:
    await books.pool.execute(f"UPDATE hold SET expires_at = {LONG_AGO}")


async def test_a_release_gives_the_money_back_once(books: Books, keeper: HoldKeeper) -> None:
    budget = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked)
    await _tell(books, keeper, HOLD_RELEASED, _released(asked), _released(asked))
    await _tell(books, keeper, HOLD_RELEASED, _released(asked))
    assert await books.balance(budget) == (0, 0, 0)
    assert await _states(books) == ["voided"]


async def test_a_release_after_the_usage_changes_nothing(books: Books, keeper: HoldKeeper) -> None:
    budget = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked)
    await books.settle(usage(request_id=asked["request_id"]))
    await _tell(books, keeper, HOLD_RELEASED, _released(asked))
    assert await books.balance(budget) == (COST, 0, 0)
    assert await _states(books) == ["settled"]


async def test_a_release_before_its_check_lets_the_check_place_nothing(books: Books, keeper: HoldKeeper) -> None:
    budget = await books.limit(10 * USD)
    asked = check()
    await _tell(books, keeper, HOLD_RELEASED, _released(asked))
    (answer,) = await books.ask(asked)
    assert (answer["allowed"], answer["reason"]) == (False, "released")
    assert await books.balance(budget) == (0, 0, 0)


async def test_an_extended_hold_ends_later_and_never_earlier(books: Books, keeper: HoldKeeper) -> None:
    asked = check(hold_ttl_s=60)
    await books.ask(asked)
    for hours in (2, 1):
        until = datetime.now(UTC) + timedelta(hours=hours)
        wish = {"request_id": asked["request_id"], "component": "rhetor", "expires_at": until.isoformat()}
        await _tell(books, keeper, HOLD_EXTENDED, wish)
    left = await books.pool.fetchval("SELECT expires_at - now() FROM hold")
    assert timedelta(minutes=119) < left <= timedelta(hours=2)


async def test_an_unknown_or_broken_wish_stops_nobody(books: Books, keeper: HoldKeeper) -> None:
    asked = check()
    await books.limit(10 * USD)
    await books.ask(asked)
    unknown = {"request_id": str(uuid.uuid4()), "component": "rhetor"}
    await _tell(books, keeper, HOLD_RELEASED, unknown, {"component": "rhetor"}, _released(asked))
    assert await _states(books) == ["voided"]
    assert await books.pool.fetchval("SELECT count(*) FROM outbox WHERE topic = 'hold.released.dlq'") == 1


async def test_an_expired_hold_of_a_hard_budget_stays_charged_as_unconfirmed(books: Books, keeper: HoldKeeper) -> None:
    hard = await books.limit(10 * USD)
    soft = await books.limit(10 * USD, policy=Policy.WARN, scope={"component": "rhetor"})
    await books.ask(check())
    await _let_it_expire(books)
    assert await keeper.expire_once() == 1
    assert await keeper.expire_once() == 0
    assert await books.balance(hard) == (0, 0, BOUND)
    assert await books.balance(soft) == (0, 0, 0)
    assert await _states(books) == ["unconfirmed"]


async def test_late_usage_settles_an_unconfirmed_hold(books: Books, keeper: HoldKeeper) -> None:
    hard = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked)
    await _let_it_expire(books)
    await keeper.expire_once()
    await books.settle(usage(request_id=asked["request_id"]))
    assert await books.balance(hard) == (COST, 0, 0)
    assert await _states(books) == ["settled"]


async def test_an_operators_release_resolves_an_unconfirmed_hold(books: Books, keeper: HoldKeeper) -> None:
    hard = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked)
    await _let_it_expire(books)
    await keeper.expire_once()
    await _tell(books, keeper, HOLD_RELEASED, _released(asked))
    assert await books.balance(hard) == (0, 0, 0)
    assert await _states(books) == ["voided"]


async def test_a_hold_without_hard_budgets_just_ends(books: Books, keeper: HoldKeeper) -> None:
    budget = await books.limit(10 * USD, policy=Policy.WARN)
    await books.ask(check())
    await _let_it_expire(books)
    await keeper.expire_once()
    assert await books.balance(budget) == (0, 0, 0)
    assert await _states(books) == ["expired"]


async def test_a_hold_does_not_expire_while_its_usage_may_still_be_unread(books: Books, keeper: HoldKeeper) -> None:
    """The settler is an hour behind: the usage of a hold that ended half an hour ago may be waiting in the log."""
    await books.limit(10 * USD)
    await books.ask(check())
    await books.pool.execute("UPDATE hold SET expires_at = now() - interval '30 minutes'")
    await books.pool.execute(f"UPDATE bus_offset SET watermark_at = {LONG_AGO} WHERE topic = $1", USAGE_RECORDED)
    assert await keeper.expire_once() == 0
    assert await _states(books) == ["open"]


async def test_without_the_watermark_it_would_expire(
    books: Books, keeper: HoldKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard has a guard: trust the clock instead of the watermark, and the test above is red."""
    await books.limit(10 * USD)
    await books.ask(check())
    await books.pool.execute("UPDATE hold SET expires_at = now() - interval '30 minutes'")
    await books.pool.execute(f"UPDATE bus_offset SET watermark_at = {LONG_AGO} WHERE topic = $1", USAGE_RECORDED)

    enter = fence.enter

    async def by_the_clock(*arguments: Any) -> fence.Entry:
        return replace(await enter(*arguments), usage_read_to=datetime.now(UTC))

    monkeypatch.setattr(fence, "enter", by_the_clock)
    assert await keeper.expire_once() == 1
    assert await _states(books) == ["unconfirmed"]


async def test_one_component_cannot_end_or_prolong_the_hold_of_another(books: Books, keeper: HoldKeeper) -> None:
    asked = check()
    await books.ask(asked)
    other = {"request_id": asked["request_id"], "component": "ergon"}
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await _tell(books, keeper, HOLD_RELEASED, other)
    await _tell(books, keeper, HOLD_EXTENDED, {**other, "expires_at": until})
    assert await _states(books) == ["open"]
    assert await books.pool.fetchval("SELECT expires_at - now() < interval '11 minutes' FROM hold")
    assert await books.pool.fetchval("SELECT count(*) FROM outbox WHERE topic LIKE 'hold.%.dlq'") == 2


async def test_a_hold_cannot_be_extended_for_years(books: Books, keeper: HoldKeeper) -> None:
    asked = check()
    await books.ask(asked)
    wish = {"request_id": asked["request_id"], "component": "rhetor", "expires_at": "2199-01-01T00:00:00Z"}
    await _tell(books, keeper, HOLD_EXTENDED, wish)
    assert await books.pool.fetchval("SELECT expires_at - now() < interval '11 minutes' FROM hold")
    assert await books.pool.fetchval("SELECT count(*) FROM outbox WHERE topic = 'hold.extended.dlq'") == 1


async def test_usage_of_another_component_leaves_a_hold_as_it_is(books: Books) -> None:
    budget = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked)
    before = metrics.FOREIGN_HOLDS._value.get()
    await books.settle(usage(component="codex", request_id=asked["request_id"]))
    assert await books.balance(budget) == (COST, BOUND, 0)
    assert await _states(books) == ["open"]
    assert metrics.FOREIGN_HOLDS._value.get() - before == 1
    row = await books.pool.fetchrow("SELECT component, request_id, unreserved FROM ledger")
    assert tuple(row) == ("codex", None, True)  # it was spent, and shown as what nobody had allowed
    await books.settle(usage(request_id=asked["request_id"]))
    assert await books.balance(budget) == (2 * COST, 0, 0)
    await books.assert_exact()


async def test_a_hold_that_another_component_names_is_settled_by_its_own_that_names_none(books: Books) -> None:
    budget = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked)
    await books.settle(usage(), usage(component="codex", request_id=asked["request_id"]))
    assert await books.balance(budget) == (2 * COST, 0, 0)
    assert await _states(books) == ["settled"]
    await books.assert_exact()


async def test_what_an_operator_decides_of_a_hold_is_audited_with_it(books: Books, keeper: HoldKeeper) -> None:
    await books.limit(10 * USD)
    asked, kept, own = check(), check(), check()
    await books.ask(asked, kept, own)
    until = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    extended = {**_released(kept), "expires_at": until.isoformat(), "actor": "key:ops"}
    await _tell(books, keeper, HOLD_EXTENDED, extended)
    await _tell(books, keeper, HOLD_RELEASED, {**_released(asked), "actor": "key:ops"}, _released(own))
    await _tell(books, keeper, HOLD_RELEASED, {**_released(asked), "actor": "key:late"})  # it was over already
    rows = await books.pool.fetch("SELECT kind, before, after, actor FROM change WHERE kind = 'hold' ORDER BY at")
    first, second = ({"request_id": one["request_id"], "component": "rhetor", "state": "open"} for one in (kept, asked))
    assert [tuple(row) for row in rows] == [
        ("hold", first, {**first, "expires_at": until.isoformat().replace("+00:00", "Z")}, "key:ops"),
        ("hold", second, {**second, "state": "voided", "reason": "never sent"}, "key:ops"),
    ]
    facts = await books.pool.fetch("SELECT value FROM outbox WHERE topic = 'budget.changes'")
    told = [BudgetChanged.model_validate_json(row["value"]) for row in facts]
    assert [fact.kind for fact in told] == ["limit", "hold", "hold"]
