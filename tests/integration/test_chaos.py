"""The real traces through the real stack while its parts are killed: same totals, nothing lost, nothing double."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx2
import pytest

from budget_bus.local import state
from budget_bus.local.child import last_lines
from budget_bus.local.ports import free_port
from tests.integration.test_up import Up, budget_up

TRACES = Path(__file__).parents[3] / "shared" / "data"
# At how many events in the ledger who is killed; the settler five times, the broker and the database once each.
VICTIMS = (
    (1_000, "serve settler"),
    (4_000, "serve settler"),
    (7_000, "kafka.Kafka"),
    (11_000, "serve settler"),
    (15_000, "bin/postgres -D"),
    (19_000, "serve settler"),
    (23_000, "serve settler"),
)
EVENTS = 8_819 + 19_366


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="budget-chaos-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(not TRACES.is_dir(), reason="the real traces are not beside the checkout, in ../shared/data")
async def test_an_import_survives_kills_of_settler_broker_and_database_exactly(directory: Path) -> None:
    async with budget_up(directory, free_port()) as up:
        await up.until("^ready: ")
        stack = state.running(up.directory)
        assert stack is not None
        if stack.kafka_kind == "trial":
            # With BUDGET_REQUIRE_KAFKA, as in CI, `budget up` refuses this broker, so this is no quiet fall-back.
            pytest.skip("the trial broker is not crash-durable: killing it loses what it had acknowledged")
        async with _listening(up):
            async with asyncio.TaskGroup() as group:
                group.create_task(_import_all(up))
                for count, victim in VICTIMS:
                    await _until_recorded(stack.database_url, count)
                    _kill(up, victim)
            await _until_recorded(stack.database_url, EVENTS)
            assert await _totals(up.port) == {
                "code": (8_819, 18_059_974, 245_896, "47.608895"),
                "conv": (19_366, 22_361_870, 4_088_665, "96.791325"),
            }
            assert await _cli(up, "db", "check") == 0
            await _import_all(up)
            assert sum(row[0] for row in (await _totals(up.port)).values()) == EVENTS
    killed = "\n".join(up.lines)
    assert killed.count("settler was killed by SIGKILL") == 5, killed
    assert killed.count("kafka was killed by SIGKILL") == 1, killed
    assert killed.count("postgresql was killed by SIGKILL") == 1, killed


@asynccontextmanager
async def _listening(up: Up) -> AsyncIterator[None]:
    """Keep reading what `budget up` says, so that its pipe never fills; show it if the body fails."""

    async def listen() -> None:
        assert up.process.stdout is not None
        async for raw in up.process.stdout:
            up.lines.append(raw.decode().rstrip("\n"))

    task = asyncio.create_task(listen())
    try:
        yield
    except BaseException:
        print("\n".join(up.lines))
        print("the settler's log ends:", *last_lines(up.directory / "logs" / "settler.log", 40), sep="\n")
        raise
    finally:
        up.process.send_signal(signal.SIGINT)
        await asyncio.wait_for(task, 60)


async def _import_all(up: Up) -> None:
    for component in ("code", "conv"):
        arguments = (
            *("import", str(TRACES / f"AzureLLMInferenceTrace_{component}.csv"), "--map", "occurred_at=TIMESTAMP"),
            *("--map", "input_tokens=ContextTokens", "--map", "output_tokens=GeneratedTokens"),
            *("--set", f"component={component}", "--set", "provider=openai", "--set", "model=gpt-4o"),
        )
        # Broker and database go away under it: it says so and is run again, as it tells its user to.
        async with asyncio.timeout(150):
            while await _cli(up, *arguments) != 0:
                pass


async def _cli(up: Up, *arguments: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "budget_bus.cli", *arguments),
        cwd=up.directory.parent,
        env={**os.environ, "BUDGET_PORT": str(up.port), "BUDGET_DATA_DIR": str(up.directory)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await asyncio.wait_for(process.wait(), 200)


async def _until_recorded(url: str, count: int) -> None:
    async with asyncio.timeout(120):
        while await _recorded(url) < count:  # noqa: ASYNC110 - what is awaited is in another process
            await asyncio.sleep(0.05)


async def _recorded(url: str) -> int:
    try:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM ledger"))
        finally:
            connection.terminate()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        return 0  # the database is one of the victims


def _kill(up: Up, victim: str) -> None:
    pids = [pid for pid, words in up.children().items() if victim in words]
    # A victim of before may not be back yet; then it cannot be killed, and the count at the end says so.
    if pids:
        os.kill(min(pids), signal.SIGKILL)


async def _totals(port: int) -> dict[str, tuple[int, int, int, str]]:
    query = {"group_by": "component", "start": "2023-11-16T00:00:00Z", "end": "2023-11-17T00:00:00Z"}
    async with httpx2.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        groups = (await client.get("/api/usage/daily", params=query)).json()["groups"]
    return {
        group["key"]["component"]: (group["requests"], group["input_tokens"], group["output_tokens"], group["cost"])
        for group in groups
    }
