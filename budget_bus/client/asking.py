"""One request until it is answered: its repeats, and what a refusal is raised as."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

from budget_bus.client.exchange import Options, Request, Response, Steps
from budget_bus.errors import (
    BudgetUnavailable,
    Conflict,
    FieldError,
    Forbidden,
    NotFound,
    Rejected,
    Unauthorized,
)

PAUSES_S = (0.05, 0.2, 0.5)  # before the repeats; each is taken times something from a half to one and a half
_AWAY = (0, 408, 429, 502, 503, 504)


class Away(BudgetUnavailable):
    """Nobody answers, or only to say that it must wait: the same may succeed later, unlike a fault of the gateway."""


def asked(
    options: Options, request: Request, *, longer_s: float = 0.0, pauses_s: Sequence[float] = PAUSES_S
) -> Steps[Response]:
    """
    The last response to a request, which is repeated within the client's timeout while the service is away: after a
    pause of *pauses_s*, or what the service names with Retry-After. The timeout may be *longer_s* for this one.
    """
    ends = monotonic() + options.timeout_s + longer_s
    request = replace(request, timeout_s=options.timeout_s + longer_s)
    was_late = False
    for usual_s in (*pauses_s, None):
        response: Response = yield request
        # An answer that came too late for the gateway is remembered: asking once more gets it.
        late = response.status == 504
        again = response.status in _AWAY and not (late and was_late)
        was_late = was_late or late
        if not again or usual_s is None:
            break
        # Not all who lost the service together come back together.
        pause_s = max(usual_s * random.uniform(0.5, 1.5), response.retry_after_s)
        left_s = ends - monotonic() - pause_s
        if left_s <= 0:
            break
        request = replace(request, timeout_s=left_s, pause_s=pause_s)
    return response


def answered(options: Options, request: Request, *, longer_s: float = 0.0) -> Steps[Response]:
    """
    As `asked`, for a response that is a success.

    Raises:
        Away: no answer in time.
        BudgetUnavailable: the gateway has a fault.
        Rejected, or what is below it: the request is wrong, or its key.
    """
    response = yield from asked(options, request, longer_s=longer_s)
    if response.failure or response.status >= 400:
        raise refusal(response)
    return response


def refusal(response: Response) -> Exception:
    """A response that is no success as one of our errors."""
    problem: dict[str, Any] = response.body if isinstance(response.body, dict) else {}
    detail = response.failure or str(problem.get("detail") or f"the gateway answered {response.status}")
    if response.status in _AWAY:
        return Away(detail, request_id=problem.get("request_id"))
    if response.status >= 500:
        return BudgetUnavailable(detail, request_id=problem.get("request_id"))
    errors = [FieldError(str(e.get("field", "")), str(e.get("message", ""))) for e in problem.get("errors") or ()]
    kinds: dict[int, type[Rejected]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict}
    return kinds.get(response.status, Rejected)(detail, errors)
