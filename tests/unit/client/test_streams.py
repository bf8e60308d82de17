"""Streams under a guard: chunks pass as they are, and the call is settled whatever becomes of its stream."""

from __future__ import annotations

import asyncio
import json
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from budget_bus.client import AsyncBudgetClient, BudgetClient
from budget_bus.client.streams import MAX_TEXT, Seen
from budget_bus.errors import BudgetUnavailable
from budget_bus.producers.responses import usage_fields
from tests.unit.client.gateway import Answer, Asked, Gateway, accepting, serving

VECTORS = Path(__file__).parents[3] / "schemas" / "examples" / "usage"
CALL: dict[str, Any] = {"component": "rhetor", "provider": "openai", "model": "gpt-4o"}
ASKED = {"input_tokens": 1000, "max_output_tokens": 5000}


def chat(text: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-4o", "choices": [choice], **more}


FINISH = {**chat(), "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = chat(choices=[], usage={"prompt_tokens": 900, "completion_tokens": 20, "total_tokens": 920})
WORDS = [chat("The quick brown"), chat(" fox jumps over"), chat(" the lazy dog.")]
COUNTED = 10  # tokens of these words, by OpenAI's own vocabulary


def stream_vectors() -> list[Any]:
    found = [json.loads(file.read_text()) for file in sorted(VECTORS.glob("*.json"))]
    return [pytest.param(vector, id=vector["title"]) for vector in found if "chunks" in vector]


def seen(provider: str, model: str, chunks: Iterable[Any]) -> Seen:
    found = Seen(provider, model)
    for chunk in chunks:
        found.add(chunk)
    return found


@pytest.mark.parametrize("vector", stream_vectors())
def test_what_is_kept_of_a_stream_tells_the_same_usage(vector: dict[str, Any]) -> None:
    usage = seen(vector["provider"], vector["model"], vector["chunks"]).usage(ASKED)
    if "rejected" in vector:
        assert (usage["input_tokens"], usage["estimated"]) == (1000, True)
    else:
        assert usage == usage_fields(vector["provider"], vector["model"], vector["chunks"])


@pytest.mark.parametrize("vector", stream_vectors())
def test_many_chunks_of_text_in_between_change_nothing_but_an_estimate(vector: dict[str, Any]) -> None:
    first, *rest = vector["chunks"]
    repeated = [chunk for chunk in rest for _ in range(1 if "usage" in str(chunk) else 50)]
    usage = seen(vector["provider"], vector["model"], [first, *repeated]).usage(ASKED)
    plain = seen(vector["provider"], vector["model"], vector["chunks"]).usage(ASKED)
    if not plain.get("estimated"):
        assert usage == plain
    assert usage["output_tokens"] >= plain["output_tokens"]


def test_a_stream_without_usage_is_estimated_from_its_text() -> None:
    assert seen("openai", "gpt-4o", [*WORDS, FINISH]).usage(ASKED) == {
        "input_tokens": 1000,
        "output_tokens": COUNTED,
        "estimated": True,
    }


def test_the_text_of_a_broken_stream_counts_as_a_whole() -> None:
    """Of what is kept, only the last piece of text is left."""
    start = {"id": "msg_1", "type": "message", "usage": {"input_tokens": 700, "output_tokens": 1}}
    pieces = [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "word " * 10}} for _ in range(50)]
    chunks = [{"type": "message_start", "message": start}, *pieces]
    usage = seen("anthropic", "claude-sonnet-4-20250514", chunks).usage(ASKED)
    whole = usage_fields("anthropic", "claude-sonnet-4-20250514", chunks)
    assert (usage["input_tokens"], usage["estimated"]) == (700, True)
    assert usage["output_tokens"] == whole["output_tokens"] > 500


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        pytest.param({"input_tokens": 7}, 7, id="as stated"),
        pytest.param({"input_text": "The quick brown fox"}, 4, id="counted"),
        pytest.param({"estimated_tokens": 100}, 100 - COUNTED, id="what a bare total leaves"),
        pytest.param({"estimated_tokens": 1}, 0, id="more output than the total"),
        pytest.param({}, 0, id="nothing"),
    ],
)
def test_the_input_is_what_the_check_said(asked: dict[str, Any], tokens: int) -> None:
    assert seen("openai", "gpt-4o", WORDS).usage(asked)["input_tokens"] == tokens


def test_a_stream_that_broke_before_its_first_chunk_has_put_out_nothing() -> None:
    usage = seen("openai", "gpt-4o", []).usage(ASKED)
    assert usage == {"input_tokens": 1000, "output_tokens": 0, "estimated": True}


def test_an_unknown_form_is_told_and_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    usage = seen("openai", "gpt-4o", [{"words": "Hello"}, object(), 3, None]).usage(ASKED)
    assert usage == {"input_tokens": 1000, "output_tokens": 0, "estimated": True}
    assert "none of the forms that are known" in caplog.text


def test_a_chunk_that_cannot_be_read_does_not_disturb(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def model_dump(self, **_: Any) -> dict[str, Any]:
            raise ValueError("no")

    usage = seen("openai", "gpt-4o", [Broken(), Broken(), *WORDS]).usage(ASKED)
    assert usage["output_tokens"] == COUNTED
    assert caplog.text.count("a chunk of type Broken cannot be read") == 1


class Part(BaseModel):
    text: str


class Content(BaseModel):
    parts: list[Part]


class Candidate(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    content: Content
    finish_reason: str | None = Field(None, alias="finishReason")


class Counts(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    prompt_token_count: int = Field(alias="promptTokenCount")
    candidates_token_count: int = Field(alias="candidatesTokenCount")


class GeminiChunk(BaseModel):
    """As Google's SDK has it: Python's names, with its API's as aliases."""

    model_config = ConfigDict(populate_by_name=True)
    candidates: list[Candidate]
    usage_metadata: Counts = Field(alias="usageMetadata")


def gemini(text: str, output: int, finish: str | None = None) -> GeminiChunk:
    candidate = Candidate(content=Content(parts=[Part(text=text)]), finish_reason=finish)
    counts = Counts(prompt_token_count=7, candidates_token_count=output)
    return GeminiChunk(candidates=[candidate], usage_metadata=counts)


def test_objects_of_sdks_are_read_by_the_names_of_the_api() -> None:
    broken = seen("google", "gemini-2.5-flash", [gemini("a", 1), gemini("b", 12)]).usage(ASKED)
    assert (broken["input_tokens"], broken["output_tokens"], broken["estimated"]) == (7, 12, True)
    whole = seen("google", "gemini-2.5-flash", [gemini("a", 1), gemini("b", 30, "STOP")]).usage(ASKED)
    assert (whole["input_tokens"], whole["output_tokens"], "estimated" in whole) == (7, 30, False)


def test_plain_objects_are_read_by_their_attributes() -> None:
    def chunk(text: str) -> SimpleNamespace:
        return SimpleNamespace(choices=[SimpleNamespace(delta=SimpleNamespace(content=text), finish_reason=None)])

    usage = seen("openai", "gpt-4o", [chunk("The quick brown"), chunk(" fox")]).usage(ASKED)
    assert usage["output_tokens"] == 4


def test_memory_is_bounded_however_long_a_stream_is() -> None:
    found = seen("openai", "gpt-4o", [chat("word " * 100)])
    tracemalloc.start()
    for number in range(5_000):
        # 2.5 MB of text, running totals, and keys that no one has seen before.
        found.add(chat("word " * 100, usage={"prompt_tokens": 1, "completion_tokens": number}, **{f"x{number}": 1}))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 8 * MAX_TEXT
    assert found._length == 500 * 5_001


def test_text_beyond_what_is_kept_is_counted_by_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[Seen.__module__], "MAX_TEXT", 500)
    usage = seen("openai", "gpt-4o", [chat("word " * 100) for _ in range(10)]).usage(ASKED)
    assert usage["output_tokens"] == pytest.approx(1000, abs=20)


# Under a guard.


class Source:
    """A provider's stream, whose connection can break; it remembers whether it was closed."""

    def __init__(self, chunks: Iterable[Any], error: Exception | None = None) -> None:
        self._chunks = iter(chunks)
        self._error = error
        self.closed = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._chunks)
        except StopIteration:
            if self._error:
                raise self._error from None
            raise

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with serving() as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> Iterator[BudgetClient]:
    with BudgetClient(port=gateway.port) as client:
        yield client


def test_chunks_pass_untouched_and_the_end_settles(gateway: Gateway, client: BudgetClient) -> None:
    chunks = [*WORDS, FINISH, USAGE]
    with client.guard(**CALL, **ASKED) as call:
        passed = list(call.stream(Source(chunks)))
        assert all(ours is theirs for ours, theirs in zip(passed, chunks, strict=True))
        assert call.recorded is not None
        assert call.recorded["status"] == "pending"
    (event,) = gateway.events
    assert (event["input_tokens"], event["output_tokens"], "estimated" in event) == (900, 20, False)
    assert event["request_id"] == call.info["request_id"]
    assert event["component"] == "rhetor"


def test_a_stream_that_is_left_early_is_settled_with_an_estimate(gateway: Gateway, client: BudgetClient) -> None:
    source = Source([*WORDS, FINISH, USAGE])
    with client.guard(**CALL, **ASKED) as call:
        for number, _ in enumerate(call.stream(source)):
            if number == 2:
                break
    (event,) = gateway.events
    assert (event["input_tokens"], event["output_tokens"], event["estimated"]) == (1000, COUNTED, True)
    assert source.closed


def test_an_error_of_the_stream_is_the_callers_and_what_arrived_is_settled(
    gateway: Gateway, client: BudgetClient
) -> None:
    source = Source(WORDS, ConnectionError("reset"))
    with pytest.raises(ConnectionError), client.guard(**CALL, **ASKED) as call:
        list(call.stream(source))
    (event,) = gateway.events
    assert (event["input_tokens"], event["output_tokens"], event["estimated"]) == (1000, COUNTED, True)
    assert source.closed


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_an_error_of_the_caller_stays_his_and_what_arrived_is_settled(
    gateway: Gateway, client: BudgetClient, error: BaseException
) -> None:
    source = Source([*WORDS, *WORDS])

    def use() -> None:
        with client.guard(**CALL, **ASKED) as call:
            for number, _ in enumerate(call.stream(source)):
                if number == 2:
                    raise error

    with pytest.raises(type(error)):
        use()
    (event,) = gateway.events
    assert (event["input_tokens"], event["output_tokens"], event["estimated"]) == (1000, COUNTED, True)
    assert source.closed


def test_a_stream_that_was_never_read_leaves_the_hold(gateway: Gateway, client: BudgetClient) -> None:
    with client.guard(**CALL, **ASKED) as call:
        call.stream(Source(WORDS))
    assert gateway.events == []


def test_what_the_caller_settles_goes_before_what_the_stream_told(gateway: Gateway, client: BudgetClient) -> None:
    with client.guard(**CALL, **ASKED) as call:
        for number, _ in enumerate(call.stream(Source([*WORDS, USAGE]))):
            if number == 1:
                call.settle(input_tokens=1, output_tokens=2)
    (event,) = gateway.events
    assert (event["input_tokens"], event["output_tokens"]) == (1, 2)


def test_one_guard_is_one_stream(client: BudgetClient) -> None:
    with client.guard(**CALL, **ASKED) as call:
        list(call.stream([USAGE]))
        with pytest.raises(RuntimeError, match="settled"):
            call.stream([USAGE])
    with client.guard(**CALL, **ASKED) as call:
        call.stream([USAGE])
        with pytest.raises(RuntimeError, match="one guard is one call"):
            call.stream([USAGE])


def away(asked: Asked) -> Answer:
    return accepting(asked) if asked.path == "/api/check" else (503, {"Retry-After": "0"}, {"detail": "away"})


def test_an_end_that_cannot_be_recorded_is_raised_after_all_chunks_and_repeated_by_settle(
    gateway: Gateway, client: BudgetClient
) -> None:
    gateway.answer = away
    with client.guard(**CALL, **ASKED) as call:
        stream = call.stream([*WORDS, USAGE])
        assert [next(stream) for _ in range(4)] == [*WORDS, USAGE]
        with pytest.raises(BudgetUnavailable):
            next(stream)
        assert list(stream) == []
        tried = len(gateway.events)
        gateway.answer = lambda asked: (200, {}, {"results": [{"status": "recorded"}]})
        call.settle()
    assert len(gateway.events) == tried + 1
    assert gateway.events[-1] == gateway.events[0]


def _fail(chunk: Any) -> None:
    raise ZeroDivisionError(chunk)


def test_an_error_of_ours_does_not_hide_the_callers(
    gateway: Gateway, client: BudgetClient, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.answer = away
    with pytest.raises(ZeroDivisionError), client.guard(**CALL, **ASKED) as call:
        _fail(next(iter(call.stream(WORDS))))
    assert "could not be recorded" in caplog.text


def test_a_stream_that_ends_in_an_outage_is_spooled(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with serving(away) as gateway, BudgetClient(port=gateway.port, timeout=0.2, spool=spool) as client:
        with client.guard(**CALL, **ASKED) as call:
            assert list(call.stream(WORDS)) == WORDS
        assert call.recorded is not None
        assert call.recorded["spooled"]
        gateway.answer = accepting
        assert client.flush() == 1
    assert gateway.events[-1]["output_tokens"] == COUNTED


# The same from async code.


async def test_an_async_stream_passes_and_settles(gateway: Gateway) -> None:
    async with AsyncBudgetClient(port=gateway.port) as client:
        async with client.guard(**CALL, **ASKED) as call:
            assert [chunk async for chunk in call.stream(Source([*WORDS, FINISH, USAGE]))] == [*WORDS, FINISH, USAGE]
        async with client.guard(**CALL, **ASKED) as call:
            source = Source([*WORDS, FINISH, USAGE])
            async for chunk in call.stream(source):
                if chunk is WORDS[2]:
                    break
        assert source.closed
        with pytest.raises(ConnectionError):
            async with client.guard(**CALL, **ASKED) as call:
                [chunk async for chunk in call.stream(Source(WORDS, ConnectionError("reset")))]
    assert [(event["input_tokens"], event["output_tokens"]) for event in gateway.events] == [
        (900, 20),
        (1000, COUNTED),
        (1000, COUNTED),
    ]


async def test_an_async_generator_is_closed(gateway: Gateway) -> None:
    closed = []

    async def source() -> AsyncIterator[Any]:
        try:
            for chunk in WORDS:
                yield chunk
        finally:
            closed.append(True)

    async with AsyncBudgetClient(port=gateway.port) as client, client.guard(**CALL, **ASKED) as call:
        async for _ in call.stream(source()):
            break
    assert closed == [True]


async def test_a_task_that_is_cancelled_again_and_again_is_settled(gateway: Gateway) -> None:
    """As when a web framework cancels the handler of a client that has gone."""
    reading = asyncio.Event()

    async def endless() -> AsyncIterator[Any]:
        for chunk in WORDS:
            yield chunk
        reading.set()
        await asyncio.Event().wait()

    async def use(client: AsyncBudgetClient) -> None:
        async with client.guard(**CALL, **ASKED) as call:
            async for _ in call.stream(endless()):
                pass

    async with AsyncBudgetClient(port=gateway.port) as client:
        task = asyncio.create_task(use(client))
        await reading.wait()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()
    (event,) = gateway.events
    assert (event["input_tokens"], event["output_tokens"], event["estimated"]) == (1000, COUNTED, True)
