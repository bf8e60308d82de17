"""Errors -> RFC 9457 problem+json, by one table of error classes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import asyncpg
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from budget_bus.errors import BudgetUnavailable, Conflict, Forbidden, NotFound, Rejected, Retryable, Unauthorized
from budget_bus.http.pace import TooMany
from budget_bus.producers.replies import NoAnswer

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 100  # a list of a thousand bad events would otherwise be answered with megabytes

log = logging.getLogger(__name__)


class NotJson(Rejected):
    """The body is not JSON at all."""


class TooLarge(Rejected):
    """The body is larger than we read."""


class TooSlow(Rejected):
    """The body takes longer to arrive than we wait."""


class ProblemError(BaseModel):
    """One wrong field; `field` is a dotted path, empty for the whole body."""

    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457. `type` is a stable slug; `request_id` names the check whose outcome is unknown."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[ProblemError] | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """How one class of errors is answered. *detail* replaces the error's own words, which are not for callers."""

    status: int
    slug: str
    detail: str | None = None


_DATABASE_AWAY = Kind(503, "unavailable", "the database does not answer; nothing was changed, try again")

# A subclass needs no row of its own: the nearest class of an error that is listed decides.
TABLE: Mapping[type[Exception], Kind] = {
    NotJson: Kind(400, "invalid-json"),
    TooSlow: Kind(408, "too-slow"),
    TooLarge: Kind(413, "too-large"),
    Unauthorized: Kind(401, "unauthorized"),
    Forbidden: Kind(403, "forbidden"),
    NotFound: Kind(404, "not-found"),
    Conflict: Kind(409, "conflict"),
    TooMany: Kind(429, "too-many-requests"),
    Rejected: Kind(422, "invalid-input"),
    NoAnswer: Kind(504, "no-answer"),
    BudgetUnavailable: Kind(503, "unavailable"),
    Retryable: Kind(503, "unavailable", "the books are busy; nothing was changed, try again"),
    asyncpg.PostgresConnectionError: _DATABASE_AWAY,
    asyncpg.OperatorInterventionError: _DATABASE_AWAY,
    asyncpg.InsufficientResourcesError: _DATABASE_AWAY,
    asyncpg.TransactionRollbackError: _DATABASE_AWAY,
    asyncpg.InterfaceError: _DATABASE_AWAY,
    OSError: _DATABASE_AWAY,
    ClientDisconnect: Kind(400, "disconnected", "the client went away before its request was complete"),
    Exception: Kind(500, "internal", "something went wrong here; the log of the gateway says what"),
}

_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}  # RFC 9110, 11.6.1 and 10.2.3
_HTTP_SLUGS = {404: "not-found", 405: "method-not-allowed"}


def kind_of(error: Exception) -> Kind:
    """The row of the table for an error."""
    return next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)


def problem_of(error: Exception) -> Problem:
    """What the caller is told of an error."""
    kind = kind_of(error)
    errors = [ProblemError(field=e.field, message=e.message) for e in getattr(error, "errors", ())]
    detail = kind.detail or str(getattr(error, "detail", error))
    if len(errors) > MAX_ERRORS:
        detail += f" ({len(errors)} errors, the first {MAX_ERRORS} are listed)"
    return Problem(
        type=kind.slug,
        title=HTTPStatus(kind.status).phrase,
        status=kind.status,
        detail=detail,
        errors=errors[:MAX_ERRORS] or None,
        request_id=getattr(error, "request_id", None),
    )


def respond(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as a response; absent members are left out."""
    content = problem.model_dump_json(exclude_none=True)
    return Response(content, problem.status, headers, MEDIA_TYPE)


def response_of(error: Exception) -> Response:
    """What the caller is answered for an error."""
    problem = problem_of(error)
    if problem.status == 503:
        log.warning("answered 503: %r", error)
    headers = dict(_HEADERS.get(problem.status, {}))
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(error.retry_after_s)
    return respond(problem, headers)


async def _answer(_request: Request, error: Exception) -> Response:
    return response_of(error)


async def _answer_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for nothing else
    phrase = HTTPStatus(error.status_code).phrase
    slug = _HTTP_SLUGS.get(error.status_code, "http")
    detail = error.detail if error.detail != phrase else f"{phrase.lower()}; README.md lists what there is"
    return respond(Problem(type=slug, title=phrase, status=error.status_code, detail=detail), error.headers)


def handlers() -> dict[Any, Any]:
    """Exception handlers for Starlette."""
    return {HTTPException: _answer_http, **dict.fromkeys(TABLE, _answer)}
