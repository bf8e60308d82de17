"""BudgetClient: the gateway from code that blocks."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from budget_bus.client import exchange, steps
from budget_bus.client.calls import GuardState
from budget_bus.client.exchange import SPOOL_LIMIT_BYTES, Info, Local, OnUnavailable, Request, Response, Steps
from budget_bus.errors import BudgetError

if TYPE_CHECKING:
    import os

T = TypeVar("T")
Chunk = TypeVar("Chunk")

log = logging.getLogger(__name__)


class BudgetClient:
    """
    The budget service over HTTP; may be shared by threads. Without *host*, *port* and *api_key* BUDGET_HOST,
    BUDGET_PORT and BUDGET_API_KEY count. A request that gets no answer is repeated with the same ids within *timeout*
    seconds, then BudgetUnavailable is raised; for checks *on_unavailable* may say "allow" or "deny" instead.

    With *spool*, the path of a file, usage that cannot be sent is kept there, up to *spool_limit_bytes*, and sent
    after the next call that works, or by `flush`. Processes may share the file.
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
        spool_limit_bytes: int = SPOOL_LIMIT_BYTES,
    ) -> None:
        import httpx2  # noqa: PLC0415 - a third of the time to import this module

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
        return self._run(steps.check(self._options, fields))

    def record_usage(self, *, provider: str, model: str, component: str, **usage: Any) -> Info:
        """
        Record a call with its `input_tokens` and `output_tokens`, and any other field of POST /api/record.

        Returns:
            What the ledger says: tokens, costs as decimal strings, `status`. "pending" if it is not there yet,
            "spooled" (and `spooled` true) if it is kept for when the service is back; both without costs.

        Raises:
            Rejected: nothing was recorded. Conflict: the `event_id` was used for another event.
            BudgetUnavailable: no answer; repeating it with the same `event_id` is safe. With a spool: it is full.
        """
        fields = {"provider": provider, "model": model, "component": component, **usage}
        return self._run(steps.record(self._options, fields))

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
        return self._run(steps.record_completion(self._options, fields, metadata))

    def guard(self, *, provider: str, model: str, component: str, **question: Any) -> Guard:
        """
        `with client.guard(...) as call`: check, then `call.settle(...)`, `call.void()`, or `call.stream(...)`. Left
        without any, by an exception too, the hold stays until it expires. Entering raises BudgetExceeded if the check
        is denied.
        """
        return Guard(self, {"provider": provider, "model": model, "component": component, **question})

    def flush(self) -> int:
        """
        Send all that is spooled, in the order it came, and return how many events the service has accepted. What it
        refuses as invalid goes to the file `PATH.rejected`.

        Raises:
            BudgetUnavailable: the service is away. Rejected: it refuses this client. The rest stays spooled.
        """
        return self._run(steps.flush(self._options))

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
            wish = next(running)
            while True:
                try:
                    answer = wish.work() if isinstance(wish, Local) else self._exchange(wish)
                except Exception as error:
                    wish = running.throw(error)
                else:
                    wish = running.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            running.close()

    def _exchange(self, request: Request) -> Response:
        time.sleep(request.pause_s)
        try:
            response = self._http.request(
                request.method, request.path, content=request.content, timeout=request.timeout_s
            )
        except self._away as error:
            return exchange.failed(error, self._options.base_url)
        return exchange.read(response)


class Guard:
    """One call under a hold. `info` is the decision, from entering on; `recorded` what settling gave back."""

    def __init__(self, client: BudgetClient, fields: dict[str, Any]) -> None:
        self._client = client
        self._state = GuardState(client._options, fields)
        self._stream: _Stream[Any] | None = None

    @property
    def info(self) -> Info:
        return self._state.info

    @property
    def recorded(self) -> Info | None:
        return self._state.recorded

    def __enter__(self) -> Self:
        self._client._run(self._state.enter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """
        Settle a stream that was not read to its end, and close it; else leave the hold as it is: settled, given back,
        or to expire.
        """
        if self._stream is None or not self._state.streaming:
            return
        self._stream.close()
        try:
            self._client._run(self._state.end_stream(wait=error is None))
        except BudgetError as failed:
            if error is None:
                raise
            log.warning("a stream that ended early could not be recorded: %s", failed)

    def settle(self, **usage: Any) -> Info:
        """
        Record what the call used, as `record_usage`; after `stream` without arguments: what the stream told. It may be
        repeated after BudgetUnavailable.
        """
        return self._client._run(self._state.settle(usage))

    def void(self, reason: str | None = None) -> None:
        """Give the hold back, because nothing was sent to the model."""
        self._client._run(self._state.void(reason))

    def stream(self, response: Iterable[Chunk]) -> Iterator[Chunk]:
        """
        The chunks of a provider's stream, as they are. At its end the call is settled with the usage that they told;
        what they did not tell, because the stream broke off, was left early, or was asked for without its usage, is
        `estimated`: the input as the check had it, the output counted from the text that arrived.

        Raises:
            BudgetUnavailable: at the end; all chunks were given, and `settle()` repeats the recording.
        """
        self._state.watch()
        self._stream = _Stream(self, response)
        return self._stream


class _Stream(Generic[Chunk]):
    """An iterator over a provider's stream."""

    def __init__(self, guard: Guard, response: Iterable[Chunk]) -> None:
        self._guard = guard
        self._response = response
        self._chunks = iter(response)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        state = self._guard._state
        state.begin()
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self._guard._client._run(state.end_stream())
            raise
        state.see(chunk)
        return chunk

    def close(self) -> None:
        """Tell the provider that no more is wanted, where the stream knows how to."""
        for part in (self._chunks, self._response):
            if callable(close := getattr(part, "close", None)):
                try:
                    close()
                except Exception as error:
                    log.debug("closing a provider's stream: %r", error)
                return
