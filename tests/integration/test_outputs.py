"""What is learnt of outputs: exactly the 99th percentile of the newest day, per component and model, by its index."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from budget_bus.consumers.learning import Outputs, keep_learning
from budget_bus.producers import BudgetBus
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider
from budget_bus.settings import Settings
from budget_bus.store import outputs as store
from budget_bus.store.outputs import Group, recent_p99
from budget_bus.store.sql import queries
from tests.integration.books import Books, usage

SQL = queries("outputs")
RHETOR = ("rhetor", "openai", "gpt-4o")


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


def ago(**span: float) -> str:
    return (datetime.now(UTC) - timedelta(**span)).isoformat()


def calls(outputs: Iterator[int] | range | list[int], **fields: Any) -> list[dict[str, Any]]:
    return [usage(output_tokens=tokens, **fields) for tokens in outputs]


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        pytest.param(range(1, 101), 99, id="of 1 to 100 it is 99"),
        pytest.param(range(100, 0, -1), 99, id="whatever their order"),
        pytest.param([7] * 20, 7, id="20 are enough"),
        pytest.param([7] * 19, None, id="19 are not"),
        pytest.param([5] * 99 + [9000], 5, id="one in a hundred is beyond it"),
        pytest.param([5] * 98 + [9000] * 2, 9000, id="two in a hundred are not"),
        pytest.param([0] * 30, 0, id="no output at all"),
    ],
)
async def test_the_percentile_is_exact(books: Books, outputs: list[int], expected: int | None) -> None:
    await books.settle(*calls(outputs))
    found = await recent_p99(books.pool, datetime.now(UTC))
    assert found == ({} if expected is None else {RHETOR: expected})


async def test_what_is_older_than_a_day_or_still_to_come_is_not_counted(books: Books) -> None:
    await books.settle(
        *calls([9000] * 30, occurred_at=ago(hours=24, minutes=1)),
        *calls([9000] * 30, occurred_at=ago(minutes=-2)),
        *calls([40] * 10, occurred_at=ago(hours=23, minutes=50)),
        *calls([40] * 10, occurred_at=ago(minutes=1)),
    )
    assert await recent_p99(books.pool, datetime.now(UTC)) == {RHETOR: 40}


async def test_components_providers_and_models_are_not_mixed(books: Books) -> None:
    await books.settle(
        *calls([10] * 20),
        *calls([20] * 20, component="scribe"),
        *calls([30] * 20, model="gpt-4o-mini"),
        *calls([40] * 20, provider="Azure OpenAI"),
    )
    assert await recent_p99(books.pool, datetime.now(UTC)) == {
        RHETOR: 10,
        ("scribe", "openai", "gpt-4o"): 20,
        ("rhetor", "openai", "gpt-4o-mini"): 30,
        ("rhetor", "azure", "gpt-4o"): 40,
    }


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        pytest.param(20, 10, id="the last two minutes have enough"),
        pytest.param(40, 20, id="the last quarter of an hour has"),
        pytest.param(60, 30, id="the last hours have"),
        pytest.param(80, 40, id="the day has"),
        pytest.param(1000, 40, id="not even the day has"),
    ],
)
async def test_of_too_many_the_newest_count(books: Books, newest: int, expected: int) -> None:
    spans = [{"minutes": 2}, {"minutes": 15}, {"hours": 3}, {"hours": 20}]
    # The oldest are written last, as a late import would: their place in the table says nothing of their age.
    for tokens, span in zip((10, 20, 30, 40), spans, strict=True):
        await books.settle(*calls([tokens] * 20, occurred_at=ago(**span)))
    assert await recent_p99(books.pool, datetime.now(UTC), newest=newest) == {RHETOR: expected}


async def big_ledger(connection: asyncpg.Connection, rows: int) -> None:
    """*rows* events of the last 60 days, evenly, in the order of their time."""
    await connection.execute(
        """
        INSERT INTO ledger (event_id, digest, occurred_at, accounted_at, component, provider, model, tier,
            service_tier, tags, input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens,
            reasoning_output_tokens, input_audio_tokens, output_audio_tokens, token_source, cost_nanos, currency,
            price_status, price_source, late, unreserved, topic, part, record_offset)
        SELECT gen_random_uuid(), '\\x00', at, at, 'rhetor', 'openai', 'gpt-4o', 'remote_heavyweight',
            'standard', '{}', 1, n % 1000, 0, 0, 0, 0, 0, 'provider', 1, 'USD',
            'priced', 'test', false, true, 't', 0, n
        FROM generate_series(1, $1::int) AS n,
            LATERAL (SELECT now() - (60.0 * ($1 - n) / $1) * interval '1 day') AS t (at)
        """,
        rows,
    )
    await connection.execute("SELECT brin_summarize_new_values('ledger_occurred')")
    await connection.execute("ANALYZE ledger")


async def plan(connection: asyncpg.Connection, name: str, *values: datetime | int) -> set[str]:
    """The steps that read the ledger in the plan of a query, as `Seq Scan` or `Bitmap Index Scan on <index>`."""
    # Only what was prepared in SQL obeys plan_cache_mode under EXPLAIN.
    types = ", ".join("timestamptz" if isinstance(value, datetime) else "int" for value in values)
    await connection.execute(f"PREPARE {name} ({types}) AS {SQL[name]}")
    given = ", ".join(f"'{value}'" for value in values)
    row = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE {name} ({given})")
    await connection.execute(f"DEALLOCATE {name}")

    def steps(node: Mapping[str, Any]) -> Iterator[str]:
        if node.get("Relation Name") == "ledger" or "Index Name" in node:
            index = node.get("Index Name")
            yield f"{node['Node Type']} on {index}" if index else node["Node Type"]
        for child in node.get("Plans", ()):
            yield from steps(child)

    return set(steps(json.loads(row)[0]["Plan"]))


# A generic plan knows nothing of $1 and $2; a statement that is used often gets one.
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_a_big_ledger_is_not_read_from_end_to_end(pool: asyncpg.Pool, mode: str) -> None:
    now = datetime.now(UTC)
    day = now - timedelta(hours=24)
    by_index = {"Bitmap Heap Scan", "Bitmap Index Scan on ledger_occurred"}
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('plan_cache_mode', $1, true)", mode)
        await big_ledger(connection, 120_000)
        assert await plan(connection, "p99", day, now, 200_000, 20) == by_index
        assert await plan(connection, "count_at_most", day, now, 200_000) == by_index
        await connection.execute("DROP INDEX ledger_occurred")
        assert "Seq Scan" in {step.removeprefix("Parallel ") for step in await plan(connection, "p99", day, now, 1, 1)}


async def test_learning_writes_nothing_and_does_not_take_for_ever(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    await books.settle(*calls([10] * 20))
    monkeypatch.setattr(store, "TIMEOUT_MS", 50)
    slow = "WITH s AS MATERIALIZED (SELECT pg_sleep(30)) SELECT count(*) FROM s WHERE $1 < $2 AND $3 > 0"
    write = "WITH d AS (DELETE FROM ledger RETURNING 1) SELECT count(*) FROM d WHERE $1 < $2 AND $3 > 0"
    for statement, error in ((slow, asyncpg.QueryCanceledError), (write, asyncpg.ReadOnlySQLTransactionError)):
        typed = statement.replace("$1 < $2", "$1::timestamptz < $2::timestamptz").replace("$3", "$3::int")
        monkeypatch.setattr(store, "_SQL", {**SQL, "count_at_most": typed})
        with pytest.raises(error):
            await recent_p99(books.pool, datetime.now(UTC))
    async with books.pool.acquire() as connection:
        assert await connection.fetchval("SHOW statement_timeout") == "0"


class Told(Outputs):
    """Outputs that set `stopping` once they have been told *times* times."""

    def __init__(self, stopping: asyncio.Event, times: int = 1) -> None:
        super().__init__()
        self.stopping, self.times = stopping, times

    def replace(self, known: Mapping[Group, int]) -> None:
        super().replace(known)
        self.times -= 1
        if not self.times:
            self.stopping.set()


async def test_outputs_are_learnt_at_once(books: Books) -> None:
    await books.settle(*calls([10] * 20))
    stopping = asyncio.Event()
    outputs = Told(stopping)
    assert outputs.p99(*RHETOR) is None
    await asyncio.wait_for(keep_learning(books.pool, outputs, stopping), 10)
    assert outputs.p99(*RHETOR) == 10
    assert outputs.p99("scribe", "openai", "gpt-4o") is None


async def test_outputs_are_learnt_again_and_again(books: Books) -> None:
    await books.settle(*calls([10] * 20))
    later = iter([datetime.now(UTC), datetime.now(UTC) + timedelta(days=2)])
    stopping = asyncio.Event()
    outputs = Told(stopping, times=2)
    work = keep_learning(books.pool, outputs, stopping, clock=lambda: next(later), period_s=0.01)
    await asyncio.wait_for(work, 10)
    assert outputs.p99(*RHETOR) is None


class Shaky:
    """A pool that fails once with each of *errors* before it works."""

    def __init__(self, pool: asyncpg.Pool, errors: list[Exception]) -> None:
        self.pool, self.errors = pool, errors

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[asyncpg.Connection]:
        if self.errors:
            raise self.errors.pop(0)
        async with self.pool.acquire() as connection:
            yield connection


async def test_a_database_that_fails_is_asked_again_and_what_was_learnt_stays(books: Books) -> None:
    await books.settle(*calls([10] * 20))
    stopping = asyncio.Event()
    outputs = Told(stopping)
    Outputs.replace(outputs, {RHETOR: 77})
    errors = [
        ConnectionRefusedError("nobody there"),
        asyncpg.QueryCanceledError("too long"),
        asyncpg.UndefinedTableError("not yet migrated"),
        asyncpg.InterfaceError("the connection is closed"),
        TimeoutError("no answer"),
    ]
    seen: list[int | None] = []

    def clock() -> datetime:
        seen.append(outputs.p99(*RHETOR))
        return datetime.now(UTC)

    with capture_logs() as logs:
        work = keep_learning(Shaky(books.pool, errors), outputs, stopping, clock=clock, period_s=0.01)  # type: ignore[arg-type]
        await asyncio.wait_for(work, 10)
    assert seen == [77] * 6
    assert outputs.p99(*RHETOR) == 10
    assert [entry["reason"].partition(":")[0] for entry in logs] == [
        "ConnectionRefusedError",
        "QueryCanceledError",
        "UndefinedTableError",
        "InterfaceError",
        "TimeoutError",
    ]


async def test_the_decider_assumes_what_it_has_learnt(books: Books, kafka: str, settings: Settings) -> None:
    await books.settle(*calls([5000] * 20))
    await apply_topics(settings)
    asked: dict[str, Any] = {"component": "rhetor", "provider": "openai", "model": "gpt-4o", "input_tokens": 10}
    async with decider(settings), BudgetBus.from_settings(settings) as bus, asyncio.timeout(60):
        # It learns at once, but answers whether or not it has learnt.
        while (answer := await bus.check(**asked, timeout_s=30.0)).estimate_source != "input_tokens, p99_output":
            assert answer.estimated_tokens == 10 + 1024
        assert answer.estimated_tokens == 10 + 5000
