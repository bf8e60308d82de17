"""The composition root: builds the parts of each role, runs them, and closes them in reverse."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from budget_bus import metrics
from budget_bus.consumers.checks import Decider, Rules
from budget_bus.consumers.estimates import Estimator
from budget_bus.consumers.holds import HoldKeeper, keep_expiring
from budget_bus.consumers.learning import Outputs, keep_learning
from budget_bus.consumers.loop import ConsumerLoop
from budget_bus.consumers.questions import Reply
from budget_bus.consumers.usage import Settler
from budget_bus.errors import ConfigError
from budget_bus.events.topics import (
    CHECK_REQUESTED,
    CHECK_RESPONSE,
    HOLD_EXTENDED,
    HOLD_RELEASED,
    TOPICS,
    USAGE_RECORDED,
)
from budget_bus.kafka import connection as kafka_connection
from budget_bus.logs import configure_logs
from budget_bus.money import parse_amount
from budget_bus.policy.budget import Policy
from budget_bus.policy.windows import Period
from budget_bus.producers.outbox import relay
from budget_bus.producers.sender import Sender
from budget_bus.providers.prices import PriceBook
from budget_bus.settings import Settings
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.pool import open_pool
from budget_bus.store.standing import apply_standing_limits, standing_limits

ROLES = ("gateway", "settler", "decider", "relay", "bookkeeper", "notifier", "specialist")
SETTLER_GROUP = "budget_bus.settler"
DECIDER_GROUP = "budget_bus.decider"

log = structlog.get_logger()


async def run(role: str, settings: Settings) -> None:
    """
    Run one role (or `all`, every role in this process) until SIGTERM or SIGINT.

    Raises:
        ConfigError: a setting that the role needs is missing.
        BudgetUnavailable: the database or the broker does not answer at the start.
    """
    configure_logs("DEBUG" if settings.debug else settings.log_level)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        # With nobody to tell, all that a notifier does is to log.
        every = [name for name in ROLES if name != "notifier" or settings.notifies]
        for name in every if role == "all" else (role,):
            if name == "gateway":
                from budget_bus.http.server import gateway  # noqa: PLC0415 - the other roles need no web server

                await _stand(settings)
                await stack.enter_async_context(gateway(settings))
            else:
                await stack.enter_async_context(_OTHERS[name](settings))
            log.info("started", role=name)
        # What was loaded by now stays; going through it again and again would cost a tenth of the settler's time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        if role != "gateway" and settings.metrics_port:
            _serve_metrics(settings.metrics_port)
        await stopping.wait()


async def _stand(settings: Settings) -> None:
    """Make the limits that the settings name."""
    from budget_bus.bookkeeping.exchange_rates import ensure_rates  # noqa: PLC0415 - the other roles need no web client

    amounts = {
        Period.DAILY: settings.daily_limit,
        Period.WEEKLY: settings.weekly_limit,
        Period.MONTHLY: settings.monthly_limit,
    }
    specs = standing_limits(
        amounts, settings.allocations, currency=settings.default_currency, timezone=settings.timezone
    )
    async with open_pool(settings, size=1) as pool:
        if specs:
            await ensure_rates(pool, settings.default_currency)
        for line in await apply_standing_limits(pool, specs):
            log.info(line)


@asynccontextmanager
async def settler(settings: Settings) -> AsyncIterator[ConsumerLoop]:
    """usage.recorded -> books."""
    async with open_pool(settings, size=2) as pool:
        catalogue = Catalogue(Policy(settings.enforcement_level))
        keeper = Settler(pool, catalogue, _prices(), use_reported_cost=settings.cost_source == "reported")
        consumer = ConsumerLoop(
            settings, pool, topic=USAGE_RECORDED, group=SETTLER_GROUP, apply=keeper.apply, max_records=1000
        )
        async with _running(consumer.run(), consumer.stop):
            yield consumer


@asynccontextmanager
async def decider(settings: Settings) -> AsyncIterator[ConsumerLoop]:
    """check.requested -> decisions, holds, check.response; and the ways in which holds end without usage."""
    async with open_pool(settings, size=5) as pool, _sender(settings) as sender:
        replies = Replies(sender, settings.topic_prefix + CHECK_RESPONSE)
        outputs = Outputs()
        judge = Decider(
            pool=pool,
            catalogue=Catalogue(Policy(settings.enforcement_level)),
            estimator=Estimator(
                prices=_prices(settings.fallback_price_per_1m),
                use_fallback_price=settings.unpriced == "fallback",
                default_max_output_tokens=settings.default_max_output_tokens,
                outputs=outputs,
            ),
            rules=Rules(settings.hold_ttl_s, settings.stale_after_s, settings.stale_policy == "deny"),
            send=replies.send,
        )
        consumer = ConsumerLoop(
            settings, pool, topic=CHECK_REQUESTED, group=DECIDER_GROUP, apply=judge.apply, fetch_max_wait_ms=50
        )
        keeper = HoldKeeper(pool, Catalogue(Policy(settings.enforcement_level)))
        stopping = asyncio.Event()
        async with AsyncExitStack() as stack:
            for topic in (HOLD_RELEASED, HOLD_EXTENDED):
                ending = ConsumerLoop(settings, pool, topic=topic, group=f"{DECIDER_GROUP}.{topic}", apply=keeper.apply)
                await stack.enter_async_context(_running(ending.run(), ending.stop))
            await stack.enter_async_context(_running(keep_expiring(keeper, stopping), stopping.set))
            await stack.enter_async_context(_running(keep_learning(pool, outputs, stopping), stopping.set))
            await stack.enter_async_context(_running(consumer.run(), consumer.stop))
            yield consumer


@asynccontextmanager
async def outbox_relay(settings: Settings) -> AsyncIterator[None]:
    """outbox -> budget.alerts, budget.updates, budget.changes, dead letters."""
    async with open_pool(settings, size=2) as pool, _sender(settings) as sender:
        stopping = asyncio.Event()
        work = relay(pool, sender, topic_prefix=settings.topic_prefix, stopping=stopping)
        async with _running(work, stopping.set):
            yield


@asynccontextmanager
async def notifier(settings: Settings) -> AsyncIterator[None]:
    """budget.alerts -> the log, webhook, Slack, e-mail."""
    from budget_bus.notifiers.subscriber import Notifier  # noqa: PLC0415 - the other roles need no FastStream

    work = Notifier(settings)
    async with _running(work.run(), work.stop):
        yield


@asynccontextmanager
async def bookkeeper(settings: Settings) -> AsyncIterator[None]:
    """New prices, restated costs, folded hours, checked sums and forecasts: at low priority, beside the streams."""
    from budget_bus.bookkeeping.exchange_rates import keep_rates  # noqa: PLC0415
    from budget_bus.bookkeeping.folding import keep_folding  # noqa: PLC0415
    from budget_bus.bookkeeping.price_updates import keep_updating  # noqa: PLC0415 - the other roles need no web client
    from budget_bus.bookkeeping.self_check import keep_checking  # noqa: PLC0415
    from budget_bus.bookkeeping.unpriced import keep_pricing  # noqa: PLC0415
    from budget_bus.insight.forecasting import Forecaster, keep_forecasting  # noqa: PLC0415
    from budget_bus.insight.watching import Watcher  # noqa: PLC0415
    from budget_bus.reporting.due import keep_reporting  # noqa: PLC0415 - the other roles make no reports

    async with open_pool(settings, size=7) as pool, AsyncExitStack() as stack:
        stopping = asyncio.Event()
        updating = keep_updating(
            pool,
            stopping,
            url=settings.price_update_url,
            factor=settings.price_move_factor,
            interval_s=settings.price_update_interval,
            at_start=settings.update_prices_on_start,
        )
        exchanging = keep_rates(pool, stopping, url=settings.exchange_rate_url)
        pricing = keep_pricing(pool, Catalogue(Policy(settings.enforcement_level)), _prices(), stopping)
        checking = keep_checking(pool, stopping, interval_s=settings.self_check_interval)
        reporting = keep_reporting(settings, pool, stopping)
        watcher = Watcher(pool, floor=parse_amount(settings.anomaly_min_cost))
        watching = watcher.run(stopping, interval_s=settings.anomaly_interval)
        interval = timedelta(seconds=settings.forecast_interval)
        forecaster = Forecaster(pool, Catalogue(Policy(settings.enforcement_level)), interval)
        forecasting = keep_forecasting(forecaster, stopping)
        folding = keep_folding(pool, stopping)
        for work in (updating, pricing, exchanging, folding, checking, reporting, watching, forecasting):
            await stack.enter_async_context(_running(work, stopping.set))
        yield


@asynccontextmanager
async def specialist(settings: Settings) -> AsyncIterator[None]:
    """Questions in plain English on BUDGET_AI_PORT -> answers from the books, which it asks the gateway for."""
    from budget_bus.specialist.service import open_specialist  # noqa: PLC0415 - the other roles need no web client

    async with open_specialist(settings):
        yield


_OTHERS = {
    "settler": settler,
    "decider": decider,
    "relay": outbox_relay,
    "bookkeeper": bookkeeper,
    "notifier": notifier,
    "specialist": specialist,
}


def _prices(fallback_price_per_1m: str | None = None) -> PriceBook:
    """The price book, read before the first event rather than while its asker waits."""
    prices = PriceBook(fallback_price_per_1m)
    prices.price("openai", "gpt-4o", datetime.now(UTC))
    return prices


class Replies:
    """Sends answers without waiting: an answer that is lost is had again by its request_id."""

    def __init__(self, sender: Sender, default_topic: str) -> None:
        self._sender, self._default_topic = sender, default_topic
        prefix = default_topic.removesuffix(CHECK_RESPONSE)
        # An asker must not be able to have us write usage or alerts.
        self._ours = {prefix + spec.name for spec in TOPICS} - {default_topic}

    def send(self, reply: Reply) -> None:
        future = self._sender.send_nowait(
            self._default_topic if not reply.topic or reply.topic in self._ours else reply.topic,
            key=reply.key,
            value=reply.value,
            headers=reply.headers,
            partition=reply.partition,
        )
        future.add_done_callback(self._report)

    def _report(self, future: asyncio.Future[object]) -> None:
        if not future.cancelled() and (error := future.exception()):
            log.warning("an answer could not be sent", reason=str(error))


@asynccontextmanager
async def _sender(settings: Settings) -> AsyncIterator[Sender]:
    sender = Sender(kafka_connection(settings))
    await sender.start()
    try:
        yield sender
    finally:
        await sender.stop()


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None], stop: Callable[[], None]) -> AsyncIterator[None]:
    """Run *work* beside the body until *stop*. If it dies, so does the body: a role without its loop is no role."""
    async with asyncio.TaskGroup() as group:
        group.create_task(work)
        try:
            yield
        finally:
            stop()


def _serve_metrics(port: int) -> None:
    from prometheus_client import start_http_server  # noqa: PLC0415 - only a role of its own serves them here

    try:
        start_http_server(port, addr="127.0.0.1", registry=metrics.REGISTRY)
    except OSError as error:
        raise ConfigError(f"BUDGET_METRICS_PORT={port}: {error.strerror}") from None
