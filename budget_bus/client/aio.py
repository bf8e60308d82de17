"""AsyncBudgetClient: the same methods as coroutines."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterable, AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from budget_bus.client import exchange, steps
from budget_bus.client.calls import GuardState
from budget_bus.client.exchange import SPOOL_LIMIT_BYTES, Info, Local, OnUnavailable, Request, Response, Steps
from budget_bus.errors import BudgetError

if TYPE_CHECKING:
    import asyncio
    import os

# ruff: noqa: PLC0415 - importing the client must not pay for what only a call needs.

T = TypeVar("T")
Chunk = TypeVar("Chunk")

log = logging.getLogger(__name__)


class AsyncBudgetClient:
    """The budget service over HTTP from async code; arguments and errors as `BudgetClient`."""

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 5.0,
        on_unavailable: OnUnavailable = "raise",
        spool: str | os.PathLike[str] | None = None,
        spool_limit_bytes: int = SPOOL_LIMIT_BYTES,
    ) -> None:
        import httpx2

        self._options = exchange.options(
            host=host,
            port=port,
            api_key=api_key,
            timeout=timeout,
            on_unavailable=on_unavailable,
            spool=spool,
            spool_limit_bytes=spool_limit_bytes,
        )
        self._away = httpx2.TransportError
        self._http = httpx2.AsyncClient(
            base_url=self._options.base_url, headers=dict(self._options.headers), trust_env=False
        )
        self._ending: set[asyncio.Task[Any]] = set()

    async def check_budget(self, *, provider: str, model: str, component: str, **question: Any) -> tuple[bool, Info]:
        """As `BudgetClient.check_budget`."""
        fields = {"provider": provider, "model": model, "component": component, **question}
        return await self._run(steps.check(self._options, fields))

    async def record_usage(self, *, provider: str, model: str, component: str, **usage: Any) -> Info:
        """As `BudgetClient.record_usage`."""
        fields = {"provider": provider, "model": model, "component": component, **usage}
        return await self._run(steps.record(self._options, fields))

    async def record_completion(
        self,
        *,
        provider: str,
        model: str,
        input_text: str,
        output_text: str,
        component: str,
        metadata: dict[str, Any] | None = None,
        **usage: Any,
    ) -> Info:
        """As `BudgetClient.record_completion`."""
        texts = {"input_text": input_text, "output_text": output_text}
        fields = {"provider": provider, "model": model, "component": component, **texts, **usage}
        return await self._run(steps.record_completion(self._options, fields, metadata))

    def guard(self, *, provider: str, model: str, component: str, **question: Any) -> AsyncGuard:
        """`async with client.guard(...) as call`, else as `BudgetClient.guard`."""
        return AsyncGuard(self, {"provider": provider, "model": model, "component": component, **question})

    async def flush(self) -> int:
        """As `BudgetClient.flush`."""
        return await self._run(steps.flush(self._options))

    async def close(self) -> None:
        """Wait for what is still being recorded of streams that were cancelled, and close the connections."""
        import asyncio

        if self._ending:
            await asyncio.wait(self._ending)
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, running: Steps[T]) -> T:
        import asyncio

        try:
            wish = next(running)
            while True:
                try:
                    if isinstance(wish, Local):
                        answer = await asyncio.to_thread(wish.work)
                    else:
                        answer = await self._exchange(wish)
                except Exception as error:
                    wish = running.throw(error)
                else:
                    wish = running.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            running.close()

    async def _run_to_the_end(self, running: Steps[T]) -> T:
        """As `_run`; whoever cancels the caller, or has done so already, does not cancel this."""
        import asyncio

        task = asyncio.create_task(self._run(running))
        self._ending.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("the end of a stream: %r", error)

    async def _exchange(self, request: Request) -> Response:
        import asyncio

        await asyncio.sleep(request.pause_s)
        try:
            response = await self._http.request(
                request.method, request.path, content=request.content, timeout=request.timeout_s
            )
        except self._away as error:
            return exchange.failed(error, self._options.base_url)
        return exchange.read(response)


class AsyncGuard:
    """One call under a hold. `info` is the decision, from entering on; `recorded` what settling gave back."""

    def __init__(self, client: AsyncBudgetClient, fields: dict[str, Any]) -> None:
        self._client = client
        self._state = GuardState(client._options, fields)
        self._stream: _Stream[Any] | None = None

    @property
    def info(self) -> Info:
        return self._state.info

    @property
    def recorded(self) -> Info | None:
        return self._state.recorded

    async def __aenter__(self) -> Self:
        await self._client._run(self._state.enter())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `Guard.__exit__`, also when the task is being cancelled."""
        if self._stream is None or not self._state.streaming:
            return
        try:
            await self._client._run_to_the_end(self._state.end_stream(wait=error is None))
        except BudgetError as failed:
            if error is None:
                raise
            log.warning("a stream that ended early could not be recorded: %s", failed)
        finally:
            await self._stream.close()

    async def settle(self, **usage: Any) -> Info:
        """As `Guard.settle`."""
        return await self._client._run(self._state.settle(usage))

    async def void(self, reason: str | None = None) -> None:
        """Give the hold back, because nothing was sent to the model."""
        await self._client._run(self._state.void(reason))

    def stream(self, response: AsyncIterable[Chunk]) -> AsyncIterator[Chunk]:
        """As `Guard.stream`, with `async for`."""
        self._state.watch()
        self._stream = _Stream(self, response)
        return self._stream


class _Stream(Generic[Chunk]):
    """An async iterator over a provider's stream."""

    def __init__(self, guard: AsyncGuard, response: AsyncIterable[Chunk]) -> None:
        self._guard = guard
        self._response = response
        self._chunks = aiter(response)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        state = self._guard._state
        state.begin()
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            await self._guard._client._run_to_the_end(state.end_stream())
            raise
        state.see(chunk)
        return chunk

    async def close(self) -> None:
        """Tell the provider that no more is wanted, where the stream knows how to."""
        for part in (self._chunks, self._response):
            if callable(close := getattr(part, "aclose", None) or getattr(part, "close", None)):
                try:
                    closing = close()
                    if inspect.isawaitable(closing):
                        await closing
                except Exception as error:
                    log.debug("closing a provider's stream: %r", error)
                return
