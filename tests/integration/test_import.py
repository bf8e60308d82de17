"""`budget import`: real traffic is counted to the last digit, and importing it again changes nothing."""

from __future__ import annotations

import json
import re
import signal
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from aiokafka.structs import TopicPartition

from budget_bus.cli.broker import open_consumer
from budget_bus.events.topics import USAGE_RECORDED
from budget_bus.policy.budget import LimitSpec, Unit
from budget_bus.policy.scope import Scope
from budget_bus.policy.windows import Period
from budget_bus.roles import settler
from budget_bus.settings import Settings
from budget_bus.store.limits import set_limit
from tests.integration.budget_command import budget, start

DATA = Path(__file__).parents[2] / "../shared/data"
COLUMNS = (
    *("--map", "occurred_at=TIMESTAMP", "--map", "input_tokens=ContextTokens"),
    *("--map", "output_tokens=GeneratedTokens", "--set", "provider=openai", "--set", "model=gpt-4o"),
)
PLAIN = ("--set", "component=c", "--set", "provider=openai", "--set", "model=gpt-4o")


@pytest.fixture
async def topics(kafka: str, settings: Settings) -> None:
    await budget(settings, "topics", "apply")


async def _books(pool: asyncpg.Pool) -> list[tuple[object, ...]]:
    rows = await pool.fetch(
        "SELECT component, count(*) AS requests, sum(input_tokens)::bigint, sum(output_tokens)::bigint, "
        "sum(cost_nanos)::bigint, min(occurred_at), max(occurred_at) FROM ledger GROUP BY 1 ORDER BY 1"
    )
    return [tuple(row) for row in rows]


async def _balances(pool: asyncpg.Pool) -> list[tuple[datetime, int]]:
    return [
        tuple(row) for row in await pool.fetch("SELECT window_start, spent FROM balance WHERE spent > 0 ORDER BY 1, 2")
    ]


@pytest.mark.usefixtures("topics")
async def test_two_real_traces_equal_the_known_totals_and_again_change_nothing(
    settings: Settings, pool: asyncpg.Pool
) -> None:
    traces = {name: DATA / f"AzureLLMInferenceTrace_{name}.csv" for name in ("code", "conv")}
    if not all(path.exists() for path in traces.values()):
        pytest.skip(f"the real traces are not in {DATA.resolve()}")
    spec = LimitSpec("day", Scope(), Period.DAILY, Unit.COST, 10**12, "USD")
    await set_limit(pool, spec, actor="test")
    async with settler(settings):
        code = await budget(settings, "import", traces["code"], *COLUMNS, "--set", "component=code")
        conv = await budget(settings, "import", traces["conv"], *COLUMNS, "--set", "component=conv")
        day = (datetime(2023, 11, 16, tzinfo=UTC), 47_608_895_000 + 96_791_325_000)
        first, last = datetime(2023, 11, 16, 18, 17, 3, 979960, UTC), datetime(2023, 11, 16, 19, 14, 19, 928016, UTC)
        books = await _books(pool)
        assert books[0] == ("code", 8819, 18_059_974, 245_896, 47_608_895_000, first, last)
        assert books[1][:5] == ("conv", 19366, 22_361_870, 4_088_665, 96_791_325_000)
        assert await _balances(pool) == [day]
        assert "sent 8819 rows" in code.out
        assert "18059974 input and 245896 output tokens" in code.out
        assert "these rows cost 47.608895 USD" in code.out
        assert "counted 19366 rows" in conv.out
        again = await budget(settings, "import", traces["code"], *COLUMNS, "--set", "component=code")
        assert "counted 0 rows" in again.out
        assert "8819 were counted before" in again.out
        assert await _books(pool) == books
        assert await _balances(pool) == [day]
    check = await budget(settings, "db", "check")
    assert "the books add up: 2 balances" in check.out


def _write(path: Path, *rows: str, header: str = "occurred_at,input_tokens,output_tokens") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.usefixtures("topics")
async def test_equal_rows_are_distinct_and_an_appended_and_renamed_file_adds_only_what_is_new(
    settings: Settings, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    same, other = "2026-01-01 10:00:00,10,1", "2026-01-01 10:00:01,20,2"
    async with settler(settings):
        result = await budget(settings, "import", _write(tmp_path / "a.csv", same, same, other), *PLAIN)
        assert "counted 3 rows" in result.out
        longer = _write(tmp_path / "renamed.csv", same, same, other, same, other)
        result = await budget(settings, "import", longer, *PLAIN)
        assert "counted 2 rows" in result.out
        assert "3 were counted before" in result.out
    assert (await _books(pool))[0][1:4] == (5, 70, 7)


@pytest.mark.usefixtures("topics")
async def test_a_bad_row_stops_all_and_with_skip_bad_only_itself(
    settings: Settings, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    path = _write(tmp_path / "a.csv", "2026-01-01 10:00:00,10,1", "yesterday,20,2", "2026-01-01 10:00:02,x,3")
    refused = await budget(settings, "import", path, *PLAIN, code=1)
    assert f"{path}:3: occurred_at: is not a time" in refused.err
    assert f"{path}:4: input_tokens: is not a whole number (column input_tokens holds 'x')" in refused.err
    assert "nothing was sent" in refused.err
    async with settler(settings):
        result = await budget(settings, "import", path, *PLAIN, "--skip-bad")
        assert "counted 1 rows" in result.out
    rejected = [json.loads(line) for line in (tmp_path / "a.csv.rejected.jsonl").read_text().splitlines()]
    assert [(item["line"], item["errors"][0]["field"]) for item in rejected] == [
        (3, "occurred_at"),
        (4, "input_tokens"),
    ]
    assert rejected[0]["row"]["occurred_at"] == "yesterday"
    assert (await _books(pool))[0][1] == 1


@pytest.mark.usefixtures("topics")
async def test_the_same_rows_as_another_component_are_told_to_conflict(settings: Settings, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", "2026-01-01 10:00:00,10,1")
    async with settler(settings):
        await budget(settings, "import", path, *PLAIN)
        other = ("--set", "component=other", "--set", "provider=openai", "--set", "model=gpt-4o")
        result = await budget(settings, "import", path, *other, code=1)
        assert "1 rows are in the ledger with other content" in result.out


@pytest.mark.usefixtures("topics")
async def test_jsonl_with_nested_columns(settings: Settings, pool: asyncpg.Pool, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    row = {
        "at": 1767261600.5,
        "who": "rhetor",
        "usage": {"in": 12, "out": 3},
        "reported_cost": {"amount": 0.1, "currency": "USD"},
    }
    path.write_text(json.dumps(row) + "\n\n" + json.dumps({**row, "who": "apollo"}) + "\n")
    maps = [
        f"--map={pair}"
        for pair in ("occurred_at=at", "component=who", "input_tokens=usage.in", "output_tokens=usage.out")
    ]
    result = await budget(settings, "import", path, *maps, "--set=provider=openai", "--set=model=gpt-4o", "--no-wait")
    assert "sent 2 rows" in result.out
    async with settler(settings):
        again = await budget(settings, "import", path, *maps, "--set=provider=openai", "--set=model=gpt-4o")
        assert "2 were counted before" in again.out
    assert [row[:4] for row in await _books(pool)] == [("apollo", 1, 12, 3), ("rhetor", 1, 12, 3)]
    assert await pool.fetchval("SELECT reported_cost_nanos FROM ledger LIMIT 1") == 100_000_000


@pytest.mark.usefixtures("topics")
async def test_an_import_that_is_interrupted_is_completed_by_running_it_again(
    settings: Settings, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    rows = [f"2026-01-01 {i // 3600:02}:{i // 60 % 60:02}:{i % 60:02},{i % 100},1" for i in range(15_000)]
    path = _write(tmp_path / "long.csv", *rows)
    process = await start(settings, "import", path, *PLAIN)
    places = [TopicPartition(settings.topic_prefix + USAGE_RECORDED, part) for part in range(settings.kafka_partitions)]
    async with open_consumer(settings) as consumer:
        while not sum((await consumer.end_offsets(places)).values()):
            pass
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert "none is counted twice" in err.decode()
    async with settler(settings):
        again = await budget(settings, "import", path, *PLAIN)
    assert "sent 15000 rows" in again.out
    assert re.search(r" [1-9][0-9]* were counted before", again.out)
    assert (await _books(pool))[0][1:4] == (15_000, 742_500, 15_000)
