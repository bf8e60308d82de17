"""Request bytes, bounded while they arrive, and their reading into a model."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request

from budget_bus.events.decode import rejected
from budget_bus.events.fields import MAX_BODY_BYTES
from budget_bus.http.problems import NotJson, TooLarge, TooSlow

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

BODY_S: Final = 60.0


async def read_body(request: Request, limit_bytes: int = MAX_BODY_BYTES, within_s: float = BODY_S) -> bytes:
    """
    The request's body.

    Raises:
        TooLarge: by its Content-Length, or as soon as more than *limit_bytes* have arrived.
        TooSlow: it was not there *within_s*.
    """
    try:
        async with asyncio.timeout(within_s):
            return await _gathered(request, limit_bytes)
    except TimeoutError:
        raise TooSlow(f"the body was not complete within {within_s:g} s") from None


async def _gathered(request: Request, limit_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def read_json(model: type[M], raw: bytes) -> M:
    """
    Read a body into *model*.

    Raises:
        NotJson: it is not JSON.
        Rejected: names every wrong field.
    """
    return read_type(TypeAdapter(model), raw)


def read_type(adapter: TypeAdapter[T], raw: bytes) -> T:
    """As `read_json`, for any type."""
    try:
        return adapter.validate_json(raw)
    except ValidationError as error:
        raise worded(error) from None


def worded(error: ValidationError) -> Exception:
    """A validation error as the error that its caller is to be told."""
    for item in error.errors(include_url=False, include_context=False):
        if item["type"] == "json_invalid":
            return NotJson(item["msg"])
    return rejected(error)


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"a body has at most {limit_bytes // (1024 * 1024)} MiB; send it in parts")
