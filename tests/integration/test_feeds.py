"""The live feeds over real sockets: uvicorn, a broker and PostgreSQL, with settler and relay in process."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from budget_bus import metrics
from budget_bus.errors import ConfigError
from budget_bus.events.topics import BUDGET_ALERTS
from budget_bus.http import server
from budget_bus.http.feeds import alerts as alert_feed
from budget_bus.http.feeds import budgets as budget_feed
from budget_bus.http.feeds import feed
from budget_bus.http.feeds.budgets import BudgetFeedQuery, BudgetReader
from budget_bus.http.feeds.feed import Feed
from budget_bus.http.feeds.outgoing import Outgoing
from budget_bus.http.server import gateway, open_parts
from budget_bus.local.child import start
from budget_bus.local.ports import free_port
from budget_bus.local.trial import open_trial
from budget_bus.producers.bus import BudgetBus
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import outbox_relay, settler
from budget_bus.settings import Settings

USED: dict[str, Any] = {"provider": "anthropic", "model": "claude-3-opus", "input_tokens": 1000, "output_tokens": 100}
COST = "0.0225"
EXAMPLE = Path(__file__).parents[2] / "schemas/examples/budget.alerts/good/approaching.json"
Told = dict[str, Any]


@dataclass(frozen=True)
class Gateway:
    """A gateway that listens, and a bus and a pool beside it."""

    settings: Settings
    http: httpx2.AsyncClient
    bus: BudgetBus
    pool: asyncpg.Pool

    def feed(self, path: str, **options: Any) -> connect:
        return connect(f"ws://127.0.0.1:{self.settings.port}{path}", ping_interval=None, **options)

    async def limit(self, limit: int | str, **body: Any) -> str:
        """Make a limit, of requests unless *body* says otherwise; its id."""
        response = await self.http.post(
            "/api/limits", json={"period": "daily", "unit": "requests", "limit": limit, **body}
        )
        assert response.status_code == 201, response.text
        return str(response.json()["budget_id"])

    async def use(self, component: str, times: int = 1) -> list[str]:
        """Record usage of *component*; returns when it is in the books."""
        events = [{**USED, "component": component, "event_id": str(uuid4())} for _ in range(times)]
        response = await self.http.post("/api/record?wait=true", json=events)
        assert response.status_code == 200, response.text
        return [event["event_id"] for event in events]

    async def publish(self, **fields: Any) -> str:
        """Put an alert on the topic that the books do not know; its id."""
        alert = json.loads(EXAMPLE.read_text()) | {"alert_id": str(uuid4()), **fields}
        await self.bus.sender.send(self.bus.topic(BUDGET_ALERTS), key=b"k", value=json.dumps(alert).encode())
        return str(alert["alert_id"])

    async def open_alerts(self, count: int) -> list[str]:
        """The ids of the open alerts, oldest first, once there are *count*."""
        async with asyncio.timeout(30):
            while True:
                items = (await self.http.get("/api/alerts?page_size=1000")).json()["items"]
                if len(items) == count:
                    return [item["alert_id"] for item in reversed(items)]


@asynccontextmanager
async def serving(settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[Gateway]:
    settings = settings.model_copy(update={"port": free_port()})
    url = f"http://127.0.0.1:{settings.port}"
    async with (
        BudgetBus.from_settings(settings) as bus,
        gateway(settings),
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        yield Gateway(settings, http, bus, pool)


@pytest.fixture
async def alone(kafka: str, settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[Gateway]:
    """A gateway without consumers and without a relay."""
    await apply_topics(settings)
    async with serving(settings, pool) as gateway:
        yield gateway


@pytest.fixture
async def live(alone: Gateway) -> AsyncIterator[Gateway]:
    """A gateway with a settler and a relay."""
    async with settler(alone.settings), outbox_relay(alone.settings):
        yield alone


async def hear(client: ClientConnection) -> Told:
    """The next message."""
    async with asyncio.timeout(30):
        message: Told = json.loads(await client.recv())
        return message


async def hear_until(client: ClientConnection, enough: Callable[[list[Told]], bool]) -> list[Told]:
    """Messages until *enough* holds of them."""
    heard: list[Told] = []
    await hear_into(heard, client, enough)
    return heard


async def hear_into(
    heard: list[Told], client: ClientConnection, enough: Callable[[list[Told]], bool] = lambda _: False
) -> None:
    """Messages until *enough* holds of them, or the connection is closed."""
    while not enough(heard):
        heard.append(await hear(client))


def of(kind: str, heard: Iterable[Told]) -> list[Told]:
    return [message["payload"] for message in heard if message["type"] == kind]


def ids(heard: Iterable[Told]) -> list[str]:
    """The alerts that were told, in their order, those of a snapshot too."""
    return [
        alert["alert_id"]
        for message in heard
        for alert in (message["payload"]["alerts"] if message["type"] == "snapshot" else [message["payload"]])
    ]


def clients(name: str) -> float | None:
    return metrics.REGISTRY.get_sample_value("budget_bus_ws_clients", {"feed": name})


def closed_as_slow() -> float:
    return metrics.REGISTRY.get_sample_value("budget_bus_ws_slow_closed_total", {"feed": "alerts"}) or 0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other tasks of this loop do, and nothing tells us of."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.to_thread(lambda: None)


async def test_the_snapshot_comes_first_then_usage_with_its_cost_and_balances(live: Gateway) -> None:
    budget_id = await live.limit("10", unit="cost")
    listed = (await live.http.get("/api/limits")).json()["items"]
    async with live.feed("/ws") as client:
        snapshot = await hear(client)
        assert snapshot["type"] == "snapshot"
        (shown,) = snapshot["payload"]["budgets"]
        assert shown == {**listed[0], "as_of": shown["as_of"]}
        (event_id,) = await live.use("rhetor")
        heard = await hear_until(client, lambda heard: bool(of("usage", heard) and of("balance", heard)))
    (usage,), (balance,) = of("usage", heard), of("balance", heard)
    assert (usage["event_id"], usage["component"], usage["total_tokens"]) == (event_id, "rhetor", 1100)
    assert (usage["cost"], usage["currency"], usage["price_status"]) == (COST, "USD", "priced")
    assert (balance["budget_id"], balance["spent"], balance["available"]) == (budget_id, COST, "9.9775")
    # The fact that the limit was made may come after the snapshot, which has it already.
    said = {message["type"]: message["at"] for message in heard}
    assert (said["usage"], said["balance"]) == (usage["recorded_at"], balance["as_of"])


async def test_a_limit_is_told_when_it_is_made_changed_and_removed(live: Gateway) -> None:
    async with live.feed("/ws?component=rhetor") as client, live.feed("/ws?component=apollo") as other:
        await hear(client)
        await hear(other)
        budget_id = await live.limit(10, scope={"component": "rhetor"}, name="mine")
        made = await hear_until(client, lambda heard: bool(of("limit", heard)))
        await live.http.patch(f"/api/limits/{budget_id}", json={"limit": 20})
        changed = await hear_until(client, lambda heard: bool(of("limit", heard)))
        await live.http.delete(f"/api/limits/{budget_id}")
        removed = await hear_until(client, lambda heard: bool(of("limit", heard)))
        theirs = await live.limit(10, scope={"component": "apollo"})
        (told,) = of("limit", await hear_until(other, lambda heard: bool(of("limit", heard))))
    assert told["budget_id"] == theirs  # the other component's was not told here
    (first,), (second,), (third,) = (of("limit", heard) for heard in (made, changed, removed))
    assert [one["budget_id"] for one in (first, second, third)] == [budget_id] * 3
    assert (first["before"], first["after"]["limit"], first["budget"]["available"]) == (None, "10", "10")
    assert (second["before"]["limit"], second["after"]["limit"], second["budget"]["limit"]) == ("10", "20", "20")
    assert (third["before"]["limit"], third["after"], third["budget"]) == ("20", None, None)
    assert first["actor"] == "http:127.0.0.1"


async def test_usage_is_told_once_whatever_is_sent_twice_or_cannot_be_used(live: Gateway) -> None:
    topic = live.bus.topic("usage.recorded")
    async with live.feed("/ws") as client:
        await hear(client)
        first = {**USED, "component": "rhetor", "event_id": str(uuid4())}
        unnamed = {**USED, "component": "rhetor", "input_tokens": 7}
        for value in (first, first, {**first, "input_tokens": 5}, {"component": "rhetor"}, unnamed):
            await live.bus.sender.send(topic, key=b"rhetor", value=json.dumps(value).encode())
        await live.bus.sender.send(topic, key=b"rhetor", value=b"no JSON")
        (last,) = await live.use("rhetor")
        heard = of(
            "usage", await hear_until(client, lambda heard: bool(heard) and heard[-1]["payload"]["event_id"] == last)
        )
    assert [usage["input_tokens"] for usage in heard] == [1000, 7, 1000]
    assert heard[0]["event_id"] == first["event_id"]
    assert UUID(heard[1]["event_id"]) == await live.pool.fetchval("SELECT event_id FROM ledger WHERE input_tokens = 7")


async def test_a_component_hears_its_usage_and_the_budgets_that_may_be_about_it(live: Gateway) -> None:
    all_, mine = await live.limit(100), await live.limit(100, scope={"component": ["rhetor", "ergon"]})
    others, not_mine = await live.limit(100, scope={"component": "apollo"}), {"component": {"not": ["rhetor"]}}
    await live.limit(100, scope=not_mine)
    async with live.feed("/ws?component=rhetor&component=codex") as client, live.feed("/ws?component=sophia") as other:
        snapshot, theirs = await hear(client), await hear(other)
        assert [budget["budget_id"] for budget in snapshot["payload"]["budgets"][:2]] == [all_, mine]
        assert len(snapshot["payload"]["budgets"]) == 3  # codex is not excluded by {"not": ["rhetor"]}
        assert len(theirs["payload"]["budgets"]) == 2
        # A limit that is made later is known by its scope too.
        later = await live.limit(100, scope={"component": "rhetor"}, period="weekly")
        await live.use("apollo")
        (event_id,) = await live.use("rhetor")

        def enough(heard: list[Told]) -> bool:
            spent = {balance["budget_id"]: balance["spent"] for balance in of("balance", heard)}
            return bool(of("usage", heard)) and spent.get(all_) == "2" and spent.get(later) == "1"

        heard = await hear_until(client, enough)
    assert [usage["event_id"] for usage in of("usage", heard)] == [event_id]
    assert others not in {balance["budget_id"] for balance in of("balance", heard)}


async def test_open_alerts_come_first_then_each_as_it_is_raised(live: Gateway) -> None:
    await live.limit(4, thresholds=[50, 75, 100])
    await live.use("rhetor", 3)
    first, second = await live.open_alerts(2)
    await live.pool.execute("UPDATE alert SET acknowledged_at = now() WHERE alert_id = $1", UUID(first))
    async with live.feed("/ws/alerts") as client:
        snapshot = await hear(client)
        assert (ids([snapshot]), snapshot["payload"]["complete"]) == ([second], True)
        await live.use("rhetor")
        alert = await hear(client)
    assert (alert["type"], alert["payload"]["type"]) == ("alert", "request_limit_exceeded")
    listed = (await live.http.get("/api/alerts?page_size=1")).json()["items"][0]
    assert alert["payload"] == {name: listed[name] for name in alert["payload"]}
    assert alert["at"] == alert["payload"]["raised_at"]


async def test_since_resumes_after_alerts_that_were_raised_in_one_moment(live: Gateway) -> None:
    await live.limit(2, thresholds=[50, 60, 70, 100])
    async with live.feed("/ws/alerts") as client:
        await hear(client)
        await live.use("rhetor", 2)
        heard = ids([await hear(client) for _ in range(4)])
    # The first client is gone, and its reader with it: what comes after an alert is read from the topic again.
    for number, alert_id in enumerate(heard):
        async with live.feed(f"/ws/alerts?since={alert_id}") as client:
            assert ids([await hear(client)]) == heard[number + 1 :]
    async with live.feed(f"/ws/alerts?since={uuid4()}") as client:
        assert sorted(ids([await hear(client)])) == sorted(heard)


async def test_since_an_alert_of_long_ago_misses_none(live: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_feed, "RECENT", 3)
    await live.limit(2, thresholds=[10, 20, 30, 50, 100])
    await live.use("rhetor", 2)
    raised = await live.open_alerts(5)
    async with live.feed("/ws/alerts") as client:
        await hear(client)
    await live.pool.execute("UPDATE alert SET raised_at = raised_at - interval '1 hour' WHERE threshold_percent = 10")
    (oldest,) = [
        row["alert_id"] for row in await live.pool.fetch("SELECT alert_id FROM alert ORDER BY raised_at LIMIT 1")
    ]
    async with live.feed(f"/ws/alerts?since={oldest}") as client:
        snapshot = await hear(client)
    assert set(ids([snapshot])) <= set(raised) - {str(oldest)}
    assert (len(snapshot["payload"]["alerts"]), snapshot["payload"]["complete"]) == (3, False)


async def test_since_an_alert_of_long_ago_has_what_overtook_it(live: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_feed, "RECENT", 1)
    await live.limit(2, thresholds=[50, 100])
    async with live.feed("/ws/alerts") as client:
        await hear(client)
        await live.use("rhetor", 2)
        first, second = ids([await hear(client), await hear(client)])
    # As if its batch had begun before that of the first, and taken longer to commit.
    await live.pool.execute(
        "UPDATE alert SET raised_at = raised_at - interval '10 s' WHERE alert_id = $1", UUID(second)
    )
    async with live.feed(f"/ws/alerts?since={first}") as client:
        assert ids([await hear(client)]) == [second]


async def test_an_alert_that_is_published_after_the_snapshot_is_not_told_again(alone: Gateway) -> None:
    await alone.limit(2, thresholds=[50, 100])
    async with settler(alone.settings):
        await alone.use("rhetor")
        async with alone.feed("/ws/alerts") as client:
            known = ids([await hear(client)])
            assert known == await alone.open_alerts(1)
            async with outbox_relay(alone.settings):
                await alone.use("rhetor")
                assert ids([await hear(client)]) == [(await alone.open_alerts(2))[1]]


async def test_without_ignoring_it_would_be_told_again(alone: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outgoing, "ignore", lambda _self, _keys: None)
    await alone.limit(2, thresholds=[50])
    async with settler(alone.settings):
        await alone.use("rhetor")
        async with alone.feed("/ws/alerts") as client, outbox_relay(alone.settings):
            assert ids([await hear(client)]) == ids([await hear(client)])


async def test_what_the_relay_publishes_twice_is_told_once(alone: Gateway) -> None:
    async with alone.feed("/ws/alerts") as client:
        await hear(client)
        first = await alone.publish()
        await alone.publish(alert_id=first)
        last = await alone.publish()
        assert ids([await hear(client), await hear(client)]) == [first, last]


async def test_every_client_hears_each_alert_once_whenever_it_joins(live: Gateway) -> None:
    components = [f"c{number}" for number in range(8)]
    for component in components:
        await live.limit(10, scope={"component": component}, thresholds=[10, 30, 50, 70, 90, 100])

    async def listen(number: int) -> list[str]:
        # One after the other, while alerts come in: each snapshot is cut elsewhere.
        for _ in range(number // 2):
            await live.http.get("/health/live")
        async with live.feed("/ws/alerts") as client:
            return ids(await hear_until(client, lambda heard: bool(ids(heard)) and ids(heard)[-1] == last))

    last = str(uuid4())
    listening = [asyncio.create_task(listen(number)) for number in range(40)]
    await asyncio.gather(*(live.use(component) for _ in range(10) for component in components))
    raised = await live.open_alerts(48)
    async with asyncio.timeout(30):
        while await live.pool.fetchval("SELECT count(*) FROM outbox WHERE topic = $1", BUDGET_ALERTS):
            pass
    await until(lambda: clients("alerts") == 40)
    await live.publish(alert_id=last)
    for heard in await asyncio.gather(*listening):
        assert Counter(heard) == Counter([*raised, last])


async def test_a_stuck_client_is_closed_as_slow_while_another_hears_everything(
    alone: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "BACKLOG", 10)
    before = closed_as_slow()
    with narrow(alone.settings.port) as sock:
        async with (
            alone.feed("/ws/alerts", sock=sock, max_queue=1, max_size=None) as stuck,
            alone.feed("/ws/alerts", max_size=None) as reads,
        ):
            await hear(reads)
            sent = []
            while closed_as_slow() == before:
                sent.append(await alone.publish(message="x" * 100_000))
                assert ids([await hear(reads)]) == [sent[-1]]
            assert clients("alerts") == 1
            # It wakes up: what had left is still there, and then the reason.
            heard: list[Told] = []
            with pytest.raises(ConnectionClosed) as closed:
                await hear_into(heard, stuck)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "slow consumer")
            assert ids(heard) == sent[: len(ids(heard))]
            sent.append(await alone.publish())
            assert ids([await hear(reads)]) == [sent[-1]]


async def test_of_balances_that_wait_only_the_newest_is_sent(live: Gateway) -> None:
    daily = await live.limit(100)
    weekly = await live.limit(100, period="weekly")
    async with open_parts(live.settings) as parts:
        budgets = Feed("test", lambda: BudgetReader(parts))
        wants = budget_feed.wants(BudgetFeedQuery(component=["nobody"]))
        async with budgets.join(wants) as (_, slow), budgets.join(wants) as (_, reads):
            newest: dict[str, str] = {}
            for number in range(1, 6):
                await live.use("rhetor")
                while newest != {daily: str(number), weekly: str(number)}:
                    balance = json.loads(await reads.get())["payload"]
                    newest[balance["budget_id"]] = balance["spent"]
            waiting = [json.loads(await slow.get())["payload"] for _ in range(2)]
            assert {balance["budget_id"]: balance["spent"] for balance in waiting} == newest
            await live.use("rhetor")
            assert json.loads(await slow.get())["payload"]["spent"] == "6"


async def test_a_peer_that_takes_nothing_does_not_hold_up_the_end(
    kafka: str, settings: Settings, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "BACKLOG", 10)
    monkeypatch.setattr(server, "STUCK_MS", 500)
    await apply_topics(settings)
    before = closed_as_slow()
    async with asyncio.timeout(60):
        async with serving(settings, pool) as gateway:
            sock = narrow(gateway.settings.port)
            stuck = await gateway.feed("/ws/alerts", sock=sock, max_queue=1, max_size=None)
            while closed_as_slow() == before:
                await gateway.publish(message="x" * 100_000)
            began = asyncio.get_running_loop().time()
        took_s = asyncio.get_running_loop().time() - began
        stuck.transport.abort()
        await stuck.wait_closed()
        # uvicorn alone would wait for it as long as for a request under way, 15 s, and then give up on it.
        assert took_s < 10


async def test_clients_are_told_that_the_gateway_restarts(kafka: str, settings: Settings, pool: asyncpg.Pool) -> None:
    await apply_topics(settings)
    async with serving(settings, pool) as gateway:
        feeds = [await gateway.feed(path) for path in ("/ws", "/ws/alerts") for _ in range(5)]
        for client in feeds:
            await hear(client)
    for client in feeds:
        with pytest.raises(ConnectionClosed) as closed:
            await hear(client)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    assert (clients("budgets"), clients("alerts")) == (0, 0)


async def test_what_a_client_sends_is_ignored_unless_it_is_huge(alone: Gateway) -> None:
    async with alone.feed("/ws/alerts") as client:
        await hear(client)
        for text in ("hello", b"\x00", "{}", "x" * 4096):
            await client.send(text)
        alert_id = await alone.publish()
        assert ids([await hear(client)]) == [alert_id]
        await client.send("x" * 5000)
        with pytest.raises(ConnectionClosed) as closed:
            await hear(client)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize(
    ("path", "headers", "status", "said"),
    [
        pytest.param("/ws?componant=rhetor", {}, 422, "componant: is not a parameter here", id="a misspelt filter"),
        pytest.param("/ws?component=", {}, 422, "component: ", id="an empty one"),
        pytest.param("/ws/alerts?since=yesterday", {}, 422, "since: ", id="no alert's id"),
        pytest.param("/ws/alerts?component=rhetor", {}, 422, "known are since", id="a filter of the other feed"),
        pytest.param("/ws", {"Origin": "https://evil.example"}, 403, "https://evil.example", id="another site's page"),
        pytest.param("/ws/nothing", {}, 403, "", id="no feed at all"),
    ],
)
async def test_a_connection_is_refused_with_a_reason(
    alone: Gateway, path: str, headers: dict[str, str], status: int, said: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await alone.feed(path, additional_headers=headers)
    response = refused.value.response
    assert response.status_code == status
    if said:
        problem = json.loads(response.body or b"")
        assert response.headers["content-type"] == "application/problem+json"
        errors = [f"{error['field']}: {error['message']}" for error in problem.get("errors", [])]
        assert said in " ".join([problem["detail"], *errors])


async def test_a_page_of_our_own_may_listen(alone: Gateway) -> None:
    origin = f"http://127.0.0.1:{alone.settings.port}"
    async with alone.feed("/ws", additional_headers={"Origin": origin}) as client:
        assert (await hear(client))["type"] == "snapshot"


async def test_an_outage_of_the_broker_loses_no_alert(settings: Settings, pool: asyncpg.Pool, tmp_path: Path) -> None:
    try:
        broker = open_trial(tmp_path)
    except ConfigError as error:
        pytest.skip(str(error))
    child = await start(broker, tmp_path / "broker.log")
    brokered = settings.model_copy(update={"kafka_bootstrap_servers": broker.bootstrap_servers})
    await apply_topics(brokered)
    try:
        async with serving(brokered, pool) as gateway, gateway.feed("/ws/alerts") as client:
            await hear(client)
            first = await gateway.publish()
            assert ids([await hear(client)]) == [first]
            await child.stop(10)
            with pytest.raises(InvalidStatus) as refused:
                await gateway.feed("/ws")
            assert refused.value.response.status_code == 503
            child = await start(broker, tmp_path / "broker.log")
            later = [await gateway.publish() for _ in range(3)]
            assert ids([await hear(client) for _ in later]) == later
    finally:
        await child.stop(10)


def narrow(port: int) -> socket.socket:
    """A connection to the gateway whose end here takes in next to nothing by itself."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock
