"""What was spooled goes to the service: in order, in lists, each event forgotten only after it was accepted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from time import monotonic

from budget_bus.client.asking import PAUSES_S, asked, refusal
from budget_bus.client.exchange import Local, Options, Request, Response, Steps
from budget_bus.client.spool import Refused, Spool
from budget_bus.errors import BudgetError

_PATIENCE_S = 1.0  # of a call that goes on with re-sending
_INVALID = (400, 413, 422)  # it is the events' fault; all else that is no success may be over later

log = logging.getLogger(__name__)


def flush(options: Options, spool: Spool) -> Steps[int]:
    """
    Send all that is spooled, and give how many events were accepted.

    Raises:
        BudgetUnavailable: the service is away; what it has not accepted stays.
        Rejected: it refuses the client (its key, say) and not the events, which stay.
        OSError: the spool cannot be read.
    """
    sent = yield from _resend(options, spool, wait=True, patience_s=None)
    return sent


def catch_up(options: Options, spool: Spool) -> Steps[None]:
    """
    After a call that worked: send what is spooled, for about a second; the next call goes on. Never raises, for the
    call itself has worked.
    """
    try:
        yield from _resend(options, spool, wait=False, patience_s=_PATIENCE_S)
    except (BudgetError, OSError) as error:
        spool.hush()
        log.warning("what is spooled in %s could not be sent again yet: %s", spool.path, error)


def _resend(options: Options, spool: Spool, *, wait: bool, patience_s: float | None) -> Steps[int]:
    ends = None if patience_s is None else monotonic() + patience_s
    pauses_s = PAUSES_S if patience_s is None else ()
    turn = spool.resending(wait=wait)
    ours = yield Local(turn.__enter__)
    try:
        if not ours:
            return 0
        return (yield from _send_all(options, spool, ends, pauses_s))
    finally:
        turn.__exit__(None, None, None)


def _send_all(options: Options, spool: Spool, ends: float | None, pauses_s: Sequence[float]) -> Steps[int]:
    offset = sent = 0
    try:
        while True:
            batch = yield Local(partial(spool.read, offset))
            if batch.end == offset:
                break
            invalid = yield from _deliver(options, batch.events, pauses_s)
            if refused := [*batch.broken, *invalid]:
                log.warning("%d spooled events are refused and kept in %s", len(refused), spool.rejected)
                yield Local(partial(spool.reject, refused, datetime.now(UTC).isoformat()))
            sent += len(batch.events) - len(invalid)
            offset = batch.end
            # Dropping copies the rest: by halves, all copies together are no larger than the file was.
            if 2 * offset >= spool.size():
                yield Local(partial(spool.drop, offset))
                offset = 0
            if ends is not None and monotonic() >= ends:
                break
    except BudgetError:
        yield Local(partial(spool.drop, offset))
        raise
    yield Local(partial(spool.drop, offset))
    return sent


def _deliver(options: Options, events: Sequence[bytes], pauses_s: Sequence[float]) -> Steps[list[Refused]]:
    """Send *events* as one list. The service takes a list whole or not at all, so what it refuses is taken out."""
    refused: list[Refused] = []
    left = list(events)
    while left:
        # A lone one bare, as it was sent first: as a list it could be too large.
        content = left[0] if len(left) == 1 else b"[" + b",".join(left) + b"]"
        response = yield from asked(options, Request("POST", "/api/record", content), pauses_s=pauses_s)
        if 200 <= response.status < 300:
            break
        if response.status not in _INVALID:
            raise refusal(response)
        reasons = _reasons(response, len(left))
        if not reasons:
            middle = len(left) // 2
            for half in (left[:middle], left[middle:]):
                refused += yield from _deliver(options, half, pauses_s)
            break
        refused += [Refused(left[index], reason) for index, reason in reasons.items()]
        left = [event for index, event in enumerate(left) if index not in reasons]
    return refused


def _reasons(response: Response, count: int) -> dict[int, str]:
    """Why events of a refused list are invalid, by their index; empty if the service does not say which."""
    if count == 1:
        return {0: str(refusal(response))}
    found: dict[int, str] = {}
    for error in getattr(refusal(response), "errors", ()):
        index, _, field = error.field.partition(".")
        if index.isdecimal() and int(index) < count:
            told = f"{field}: {error.message}" if field else error.message
            found[int(index)] = f"{found[int(index)]}; {told}" if int(index) in found else told
    return found
