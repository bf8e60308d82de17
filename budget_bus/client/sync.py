"""BudgetClient: the gateway from code that blocks."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from budget_bus.client import steps
from budget_bus.client.spool import LIMIT_BYTES, Spool
from budget_bus.client.steps import GuardState, Info, OnUnavailable, Request, Response, Steps
from budget_bus.client.streaming import StreamedUsage
from budget_bus.errors import BudgetError

# ruff: noqa: PLC0415 - whoever imports a client must not wait for what only its requests need.

T = TypeVar("T")
C = TypeVar("C")

log = logging.getLogger(__name__)


class BudgetClient:
    """
    The budget service over HTTP; may be shared by threads. Without *host*, *port* and *api_key* BUDGET_HOST,
    BUDGET_PORT and BUDGET_API_KEY count. A request that gets no answer is repeated a few times with the same ids, then
    BudgetUnavailable is raised; for checks *on_unavailable* may say "allow" or "deny" instead. *timeout* is in seconds.

    With *spool*, a file's path, usage that cannot be sent is kept there (`spooled` is True in what recording returns),
    and sent by the next recording that gets through, or by `flush`; so an outage loses nothing. Threads and processes
    may share the file.
    """

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
        import httpx2

        self._http = httpx2.Client(
            base_url=self._options.base_url, headers=dict(self._options.headers), trust_env=False
        )

    def check_budget(self, *, provider: str, model: str, component: str, **question: Any) -> tuple[bool, Info]:
        """
        Ask before a call, with one estimate: `estimated_tokens`, or `input_tokens` or `input_text` with an optional
        `max_output_tokens`; and any other field of POST /api/check. An allowed call holds its estimate until it is
        recorded.

        Returns:
            Whether it is allowed, and the decision as POST /api/check answers it.

        Raises:
            Rejected: the service's reason, with the wrong fields. Conflict: the `request_id` was used before.
            Unauthorized, Forbidden: the key is not known, or may not check for this component.
            BudgetUnavailable: no answer; asking again with its `request_id` is safe.
        """
        fields = {"provider": provider, "model": model, "component": component, **question}
        return self._run(steps.check(self._options.on_unavailable, fields))

    def record_usage(self, *, provider: str, model: str, component: str, **usage: Any) -> Info:
        """
        Record a call with its `input_tokens` and `output_tokens`, and any other field of POST /api/record.

        Returns:
            What the ledger says: tokens, costs as decimal strings, `status`. "pending" if it is not there yet.

        Raises:
            Rejected: nothing was recorded. Conflict: the `event_id` was used for another event.
            BudgetUnavailable: no answer; repeating it with the same `event_id` is safe.
        """
        return self._run(
            steps.record({"provider": provider, "model": model, "component": component, **usage}, self._spool)
        )

    def record_completion(
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
        """As `record_usage`, for texts whose tokens the service counts. *metadata* goes into the tags."""
        texts = {"input_text": input_text, "output_text": output_text}
        fields = {"provider": provider, "model": model, "component": component, **texts, **usage}
        return self._run(steps.record_completion(fields, metadata, self._spool))

    def guard(self, *, provider: str, model: str, component: str, **question: Any) -> Guard:
        """
        `with client.guard(...) as call`: check, then `call.settle(...)` or `call.void()`. Left without either, by an
        exception too, the hold stays until it expires. Entering raises BudgetExceeded if the check is denied.
        """
        return Guard(self, {"provider": provider, "model": model, "component": component, **question})

    def flush(self) -> int:
        """
        Send what the spool has kept.

        Returns:
            How many calls the service took. What it refuses is put aside in `PATH.rejected`, with the reason.

        Raises:
            BudgetUnavailable: no answer; what was not taken stays. Unauthorized, Forbidden: the key.
        """
        return 0 if self._spool is None else self._run(steps.flush(self._spool))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, running: Steps[T]) -> T:
        try:
            request = next(running)
            while True:
                request = running.send(self._exchange(request))
        except StopIteration as done:
            result: T = done.value
            return result

    def _exchange(self, request: Request) -> Response:
        import httpx2

        time.sleep(request.pause_s)
        try:
            response = self._http.request(
                request.method, request.path, content=request.content, timeout=self._options.timeout_of(request)
            )
        except httpx2.TransportError as error:
            return steps.failed(error, self._options.base_url)
        return steps.read(response)


class Guard:
    """One call under a hold. `info` is the decision, from entering on."""

    def __init__(self, client: BudgetClient, fields: dict[str, Any]) -> None:
        self._client = client
        self._state = GuardState(fields)

    @property
    def info(self) -> Info:
        return self._state.info

    def __enter__(self) -> Self:
        self._client._run(self._state.enter(self._client._options.on_unavailable))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """
        Settle a stream that was begun, as far as it came; else leave the hold as it is: settled, given back, or else to
        expire. An error on the way out is only logged if the block has ended with one of its own.
        """
        try:
            self._client._run(self._state.settle_stream(self._client._spool))
        except BudgetError as failure:
            if error is None:
                raise
            log.warning("the stream's usage is not recorded, its hold stays until it expires: %s", failure)

    def stream(self, chunks: Iterable[C]) -> Iterator[C]:
        """
        Pass the chunks of an answer through, and settle the call with what they say when they end: the provider's
        numbers, else an estimate of the text that came, marked as `estimated`. A stream that is broken off is settled
        so when the guard is left. OpenAI's, Anthropic's, Google's and Ollama's chunks are known, as JSON or as objects.
        """
        streamed = self._state.streamed = StreamedUsage()
        for chunk in chunks:
            streamed.take(chunk)
            yield chunk
        self._client._run(self._state.settle_stream(self._client._spool))

    def settle(self, **usage: Any) -> Info:
        """Record what the call used, as `record_usage`; it may be repeated after BudgetUnavailable."""
        return self._client._run(self._state.settle(usage, self._client._spool))

    def void(self, reason: str | None = None) -> None:
        """Give the hold back, because nothing was sent to the model."""
        self._client._run(self._state.void(reason))
