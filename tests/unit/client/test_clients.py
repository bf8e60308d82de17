"""Both clients on real sockets: what they do while the service is away, and what they import."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from budget_bus.client import AsyncBudgetClient, BudgetClient
from budget_bus.errors import BudgetExceeded, BudgetUnavailable
from budget_bus.local.ports import free_port
from tests.unit.client.driving import CALL
from tests.unit.client.gateway import Answer, serving

Away = Callable[[], AbstractContextManager[int]]


@contextmanager
def refusing() -> Iterator[int]:
    yield free_port()


@contextmanager
def silent() -> Iterator[int]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def answering(status: int) -> Away:
    @contextmanager
    def opened() -> Iterator[int]:
        answer: Answer = (status, {"Retry-After": "0"}, {"type": "unavailable", "detail": "away", "request_id": "r"})
        with serving(lambda asked: answer) as gateway:
            yield gateway.port

    return opened


WAYS = pytest.mark.parametrize(
    "away",
    [
        pytest.param(refusing, id="connection refused"),
        pytest.param(silent, id="no answer"),
        pytest.param(answering(503), id="503"),
        pytest.param(answering(504), id="504"),
    ],
)


@WAYS
def test_a_blocking_client_does_what_it_was_told(away: Away) -> None:
    with away() as port:
        with BudgetClient(port=port, timeout=0.3) as client:
            with pytest.raises(BudgetUnavailable) as caught:
                client.check_budget(**CALL, request_id="mine", estimated_tokens=1)
            assert caught.value.request_id == "mine"
            with pytest.raises(BudgetUnavailable), client.guard(**CALL, estimated_tokens=1):
                pytest.fail("a call was made that nobody had allowed")
        with BudgetClient(port=port, timeout=0.3, on_unavailable="allow") as client:
            allowed, info = client.check_budget(**CALL, estimated_tokens=1)
            assert (allowed, info["allowed"], info["hold"]) == (True, True, None)
            with client.guard(**CALL, estimated_tokens=1) as call:
                call.void()
        with BudgetClient(port=port, timeout=0.3, on_unavailable="deny") as client:
            assert client.check_budget(**CALL, estimated_tokens=1)[0] is False
            with pytest.raises(BudgetExceeded, match="unavailable"), client.guard(**CALL, estimated_tokens=1):
                pytest.fail("a denied call was made")


@WAYS
async def test_an_async_client_does_what_it_was_told(away: Away) -> None:
    with away() as port:
        async with AsyncBudgetClient(port=port, timeout=0.3) as client:
            with pytest.raises(BudgetUnavailable) as caught:
                await client.check_budget(**CALL, request_id="mine", estimated_tokens=1)
            assert caught.value.request_id == "mine"
        async with AsyncBudgetClient(port=port, timeout=0.3, on_unavailable="allow") as client:
            assert (await client.check_budget(**CALL, estimated_tokens=1))[0] is True
            async with client.guard(**CALL, estimated_tokens=1) as call:
                await call.void()
        async with AsyncBudgetClient(port=port, timeout=0.3, on_unavailable="deny") as client:
            assert (await client.check_budget(**CALL, estimated_tokens=1))[0] is False
            with pytest.raises(BudgetExceeded, match="unavailable"):
                async with client.guard(**CALL, estimated_tokens=1):
                    pytest.fail("a denied call was made")


def test_a_service_that_comes_back_is_asked_the_same_again() -> None:
    answers: list[Answer] = [(503, {}, {}), (502, {}, {}), (200, {}, {"allowed": True, "hold": None})]
    with serving(lambda asked: answers.pop(0)) as gateway, BudgetClient(port=gateway.port) as client:
        assert client.check_budget(**CALL, estimated_tokens=1)[0]
    assert len({one.body["request_id"] for one in gateway.asked}) == 1
    assert len(gateway.asked) == 3


async def test_a_key_is_sent_as_bearer() -> None:
    with serving() as gateway:
        with BudgetClient(port=gateway.port, api_key="bb_secret") as client:
            client.check_budget(**CALL, estimated_tokens=1)
        async with AsyncBudgetClient(port=gateway.port, api_key="bb_secret") as other:
            await other.check_budget(**CALL, estimated_tokens=1)
        with BudgetClient(port=gateway.port) as client:
            client.check_budget(**CALL, estimated_tokens=1)
    assert [one.authorization for one in gateway.asked] == ["Bearer bb_secret", "Bearer bb_secret", None]


SERVERS = ("aiokafka", "asyncpg", "faststream", "prometheus_client", "starlette", "typer", "uvicorn")


def loaded(code: str) -> set[str]:
    """The modules that a fresh process has after *code*."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_client_loads_no_server_and_little_else() -> None:
    modules = loaded("from budget.client import AsyncBudgetClient, BudgetClient")
    slow = {"asyncio", "httpx2", "pydantic", "pydantic_core", "structlog", "genai_prices", "budget_bus.providers"}
    assert modules & {*SERVERS, *slow, "budget_bus.store", "budget_bus.settings"} == set()


def test_a_stream_and_a_spool_load_no_server_either(tmp_path: Path) -> None:
    code = f"""
from budget.client import BudgetClient
from budget_bus.client.streams import Seen
client = BudgetClient(port=1, timeout=0.01, spool={str(tmp_path / "spool")!r})
seen = Seen("openai", "gpt-4o")
seen.add({{"choices": [{{"delta": {{"content": "Hello"}}}}]}})
usage = seen.usage({{"input_tokens": 3}})
assert client.record_usage(provider="openai", model="gpt-4o", component="c", **usage)["spooled"]
"""
    assert loaded(code) & {*SERVERS, "budget_bus.store"} == set()


def test_both_names_are_the_same_classes() -> None:
    import budget.client
    import budget_bus.client

    assert budget.client.BudgetClient is budget_bus.client.BudgetClient
    assert budget.client.AsyncBudgetClient is budget_bus.client.AsyncBudgetClient
