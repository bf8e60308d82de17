"""Newer price data: fetched, judged, kept, and what waits of it decided."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import httpx2
import structlog

from budget_bus.errors import BudgetUnavailable, Rejected
from budget_bus.providers import data
from budget_bus.providers.merging import Changed, merge
from budget_bus.store import fence, price_data
from budget_bus.store.changes import Noted, note
from budget_bus.store.price_data import Change, Review

log = structlog.get_logger()

_TIMEOUT_S = 20.0
_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Update:
    """What an update came to. *taken* are in force, *held* keep their old price until somebody decides."""

    source: str
    models: int
    taken: tuple[Changed, ...]
    held: tuple[Changed, ...]


async def fetch(url: str) -> bytes:
    """
    The price data at *url*.

    Raises:
        BudgetUnavailable: nothing usable answers; being offline is normal, and what is in force stays.
    """
    try:
        client = httpx2.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=True)
        async with client, client.stream("GET", url) as response:
            if response.status_code != 200:
                raise BudgetUnavailable(f"{url} answered {response.status_code}")
            raw = bytearray()
            async for part in response.aiter_bytes():
                raw += part
                if len(raw) > _MAX_BYTES:
                    raise BudgetUnavailable(f"{url} sends more than {_MAX_BYTES} bytes")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise BudgetUnavailable(f"{url} does not answer: {error or type(error).__name__}") from None
    return bytes(raw)


async def apply(
    pool: asyncpg.Pool, raw: bytes, *, source: str, actor: str, factor: Decimal, now: datetime | None = None
) -> Update:
    """
    Judge fetched data and take over what is plausible, in one transaction; the same again changes nothing.

    Raises:
        Rejected: it is not of the form; nothing is changed.
    """
    at = now or datetime.now(UTC)
    fetched = await asyncio.to_thread(data.parse, raw)
    async with pool.acquire() as connection, connection.transaction():
        await fence.lock_catalogue(connection)
        kept = await price_data.current(connection)
        found = kept.document if kept else data.bundled()
        refused = {(one.provider, one.model): one.after for one in await price_data.reviews(connection, "rejected")}
        merged = merge(found, fetched, at=at, factor=factor, rejected=refused)
        if merged.taken or merged.document != found:
            await price_data.put(connection, merged.document, _changes(merged.taken), source=source, actor=actor, at=at)
        waiting = [one for one in merged.held if refused.get(one.key, one) != one.after]
        await price_data.ask(connection, _changes(waiting), at=at)
    return Update(source, sum(1 for _ in data.models(merged.document)), merged.taken, tuple(waiting))


async def decide(
    pool: asyncpg.Pool, provider: str, model: str, *, approve: bool, actor: str, now: datetime | None = None
) -> Review:
    """
    Take what waits of a model of the data over, or refuse it: the same again is then held without asking.

    Raises:
        NotFound: nothing of it waits.
    """
    at = now or datetime.now(UTC)
    async with pool.acquire() as connection, connection.transaction():
        await fence.lock_catalogue(connection)
        review = await price_data.decide(connection, provider, model, "approved" if approve else "rejected", by=actor)
        if approve:
            kept = await price_data.current(connection)
            document = []
            for one in kept.document if kept else data.bundled():
                models = one["models"]
                if one["id"] == provider:
                    models = [review.after if held["id"] == model else held for held in models]
                document.append({**one, "models": [held for held in models if held is not None]})
            change = Change(provider, model, review.before, review.after, review.reason)
            source = kept.source if kept else data.BUNDLED
            await price_data.put(connection, document, [change], source=source, actor=actor, at=at)
        else:
            what = {"provider": provider, "model": model, "reason": review.reason}
            before, after = ({**what, "review": state} for state in ("waiting", "rejected"))
            await note(connection, Noted("price", before, after, f"{provider}/{model}"), actor=actor, at=at)
    return review


async def keep_updating(
    pool: asyncpg.Pool, stopping: asyncio.Event, *, url: str, factor: Decimal, interval_s: float, at_start: bool
) -> None:
    """Update every *interval_s* seconds until *stopping*; what fails is said in the log and tried again then."""
    due = at_start
    while not stopping.is_set():
        if due:
            try:
                told = await apply(pool, await fetch(url), source=url, actor="bookkeeper", factor=factor)
                log.info("price data is up to date", taken=len(told.taken), waiting=len(told.held), models=told.models)
            except (BudgetUnavailable, Rejected) as error:
                log.info("the price data stays as it is", reason=str(error))
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                log.warning("updating prices is tried again", reason=f"{type(error).__name__}: {error}")
        due = True
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), interval_s)


def _changes(found: Sequence[Changed]) -> list[Change]:
    return [Change(*one.key, one.before, one.after, one.reason) for one in found]
