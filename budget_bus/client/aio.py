"""AsyncBudgetClient: the same methods as coroutines."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterable, AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from budget_bus.client import steps
from budget_bus.client.spool import LIMIT_BYTES, Spool
from budget_bus.client.steps import GuardState, Info, OnUnavailable, Request, Response, Steps
from budget_bus.client.streaming import StreamedUsage
from budget_bus.errors import BudgetError

T = TypeVar("T")
C = TypeVar("C")

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
        spool_limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self._spool = None if spool is None else Spool(spool, spool_limit_bytes)
        self._options = steps.options(host, port, api_key, timeout, on_unavailable)
        self._http = httpx2.AsyncClient(
            base_url=self._options.base_url, headers=dict(self._options.headers), trust_env=False
        )

    async def check_budget(self, *, provider: str, model: str, component: str, **question: Any) -> tuple[bool, Info]:
        """As `BudgetClient.check_budget`."""
        fields = {"provider": provider, "model": model, "component": component, **question}
        return await self._run(steps.check(self._options.on_unavailable, fields))

    async def record_usage(self, *, provider: str, model: str, component: str, **usage: Any) -> Info:
        """As `BudgetClient.record_usage`."""
        fields = {"provider": provider, "model": model, "component": component, **usage}
        return await self._run(steps.record(fields, self._spool))

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
        return await self._run(steps.record_completion(fields, metadata, self._spool))

    def guard(self, *, provider: str, model: str, component: str, **question: Any) -> AsyncGuard:
        """`async with client.guard(...) as call`, else as `BudgetClient.guard`."""
        return AsyncGuard(self, {"provider": provider, "model": model, "component": component, **question})

    async def flush(self) -> int:
        """As `BudgetClient.flush`."""
        return 0 if self._spool is None else await self._run(steps.flush(self._spool))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, running: Steps[T]) -> T:
        try:
            request = next(running)
            while True:
                request = running.send(await self._exchange(request))
        except StopIteration as done:
            result: T = done.value
            return result

    async def _exchange(self, request: Request) -> Response:
        await asyncio.sleep(request.pause_s)
        try:
            response = await self._http.request(
                request.method, request.path, content=request.content, timeout=self._options.timeout_of(request)
            )
        except httpx2.TransportError as error:
            return steps.failed(error, self._options.base_url)
        return steps.read(response)


class AsyncGuard:
    """One call under a hold. `info` is the decision, from entering on."""

    def __init__(self, client: AsyncBudgetClient, fields: dict[str, Any]) -> None:
        self._client = client
        self._state = GuardState(fields)

    @property
    def info(self) -> Info:
        return self._state.info

    async def __aenter__(self) -> Self:
        await self._client._run(self._state.enter(self._client._options.on_unavailable))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `Guard.__exit__`."""
        try:
            await self._client._run(self._state.settle_stream(self._client._spool))
        except BudgetError as failure:
            if error is None:
                raise
            log.warning("the stream's usage is not recorded, its hold stays until it expires: %s", failure)

    async def stream(self, chunks: AsyncIterable[C]) -> AsyncIterator[C]:
        """As `Guard.stream`."""
        streamed = self._state.streamed = StreamedUsage()
        async for chunk in chunks:
            streamed.take(chunk)
            yield chunk
        await self._client._run(self._state.settle_stream(self._client._spool))

    async def settle(self, **usage: Any) -> Info:
        """Record what the call used, as `record_usage`; it may be repeated after BudgetUnavailable."""
        return await self._client._run(self._state.settle(usage, self._client._spool))

    async def void(self, reason: str | None = None) -> None:
        """Give the hold back, because nothing was sent to the model."""
        await self._client._run(self._state.void(reason))
