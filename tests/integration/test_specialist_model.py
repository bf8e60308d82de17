"""The specialist with a language model: a fake endpoint that may lie, whose calls are budgeted and recorded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings
from budget_bus.specialist.desk import Desk
from budget_bus.specialist.protocol import Chat
from budget_bus.specialist.service import open_specialist

QUESTION = "how much has rhetor spent today?"
CALL = {"component": "rhetor", "provider": "openai", "model": "gpt-4o", "input_tokens": 1000, "output_tokens": 100}
COST = "0.0035"
USAGE = {"prompt_tokens": 500, "completion_tokens": 40, "total_tokens": 540}  # 0.00165 dollars of gpt-4o


def says(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": USAGE, "model": "gpt-4o"}


def calls(name: str, **arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    return {"choices": [{"message": message}], "usage": USAGE, "model": "gpt-4o"}


class Model:
    """A chat completions endpoint that gives the answers of a script, and remembers what it was asked."""

    def __init__(self) -> None:
        self.script: list[dict[str, Any] | Response] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    async def complete(self, request: Request) -> Response:
        self.asked.append(await request.json())
        self.keys.append(request.headers.get("authorization"))
        answer = self.script.pop(0)
        return answer if isinstance(answer, Response) else JSONResponse(answer)


@asynccontextmanager
async def endpoint(model: Model) -> AsyncIterator[str]:
    app = Starlette(routes=[Route("/v1/chat/completions", model.complete, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server.should_exit = True
        await serving


@pytest.fixture
async def talking(kafka: str, settings: Settings) -> AsyncIterator[tuple[Desk, Model, Settings]]:
    await apply_topics(settings)
    model = Model()
    async with endpoint(model) as url:
        here = settings.model_copy(update={
            "port": free_port(), "ai_port": free_port(), "check_timeout_ms": 30_000, "ai_model": "gpt-4o",
            "ai_provider": "openai", "ai_base_url": SecretStr(url), "ai_api_key": SecretStr("sk-1"),
        })  # fmt: skip
        async with settler(settings), decider(settings), gateway(here), open_specialist(here) as desk:
            await _post(desk, "/api/record?wait=true", CALL)
            yield desk, model, here


async def _post(desk: Desk, path: str, body: Any) -> Any:
    response = await desk.client.post(path, json=body)
    assert response.status_code < 300, response.text
    return response.json()


async def recorded(desk: Desk, count: int) -> dict[str, Any]:
    """What the ledger has of the model's calls, once there are so many; and that nothing of them is held."""
    async with asyncio.timeout(60):
        while True:
            usage = (await desk.client.get("/api/usage/daily", params={"component": "budget-ai"})).json()
            holds = (await desk.client.get("/api/holds", params={"component": "budget-ai"})).json()["items"]
            if usage["totals"]["requests"] >= count and not holds:
                totals: dict[str, Any] = usage["totals"]
                return totals


async def ask(desk: Desk, text: str = QUESTION, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        await desk.answer(json.dumps({"type": "chat", "content": text, **fields}).encode())
    )
    return answer


async def test_a_true_answer_is_passed_on_and_its_calls_are_in_the_ledger(
    talking: tuple[Desk, Model, Settings],
) -> None:
    desk, model, _ = talking
    model.script = [calls("get_usage", component="rhetor"), says(f"Rhetor has spent ${COST} today, with 1,100 tokens.")]
    reply = await ask(desk)
    assert reply["content"] == f"Rhetor has spent ${COST} today, with 1,100 tokens."
    assert (reply["type"], reply["model"]) == ("response", "openai/gpt-4o")
    assert reply["usage"] == {"input_tokens": 1000, "output_tokens": 80, "total_tokens": 1080}
    totals = await recorded(desk, 2)
    assert (totals["requests"], totals["input_tokens"], totals["output_tokens"]) == (2, 1000, 80)
    assert totals["cost"] == "0.0033"
    # Each call was asked for before it was made.
    decisions = (await desk.client.get("/api/decisions", params={"component": "budget-ai"})).json()["items"]
    assert [one["action"] for one in decisions] == ["allow", "allow"]
    assert model.keys == ["Bearer sk-1"] * 2
    assert COST in model.asked[1]["messages"][-1]["content"]
    assert {tool["function"]["name"] for tool in model.asked[0]["tools"]} >= {
        "get_usage",
        "list_limits",
        "answer_question",
    }


@pytest.mark.parametrize(
    "lie",
    [
        "Rhetor has spent 12.34 USD today.",
        "Rhetor has spent twelve dollars.",
        "That is 80 % of all.",
        f"It has spent {COST} USD since 1999-12-31.",
        "About 3k tokens.",
    ],
)
async def test_a_lie_never_reaches_the_client(talking: tuple[Desk, Model, Settings], lie: str) -> None:
    desk, model, _ = talking
    model.script = [calls("get_usage", component="rhetor"), says(lie), says(lie)]
    reply = await ask(desk)
    assert lie not in reply["content"]
    assert reply["model"] == "intents"
    assert "said figures that are not in the books. So this is the answer without it." in reply["content"]
    assert f"rhetor spent {COST} USD (1 call, 1,100 tokens)." in reply["content"]
    assert "in no tool's result" in model.asked[2]["messages"][-1]["content"]
    assert (await recorded(desk, 3))["requests"] == 3


async def test_it_may_put_a_lie_right_once(talking: tuple[Desk, Model, Settings]) -> None:
    desk, model, _ = talking
    model.script = [says("It is 99 USD."), calls("get_usage", component="rhetor"), says(f"It is {COST} USD.")]
    assert (await ask(desk))["content"] == f"It is {COST} USD."


async def test_a_number_that_it_put_into_a_tool_itself_is_no_figure_of_the_books(
    talking: tuple[Desk, Model, Settings],
) -> None:
    desk, model, _ = talking
    smuggled = calls("answer_question", question="can rhetor run 31337 gpt-4o calls?")
    lie = "Rhetor has spent 31337 USD."
    model.script = [smuggled, says(lie), says(lie)]
    assert "31337" not in (await ask(desk))["content"]


async def test_the_engine_is_a_tool_of_the_model(talking: tuple[Desk, Model, Settings]) -> None:
    desk, model, _ = talking
    await _post(desk, "/api/limits", {"period": "daily", "limit": 1, "policy": "HARD_LIMIT", "name": "day"})
    text = "can rhetor run 20 gpt-4o calls?"
    model.script = [calls("answer_question", question=text), says("Yes, 20 calls fit.")]
    assert (await ask(desk, text))["content"] == "Yes, 20 calls fit."
    assert "Yes: 20 calls of openai/gpt-4o by rhetor fit" in model.asked[1]["messages"][-1]["content"]


async def test_it_only_reads(talking: tuple[Desk, Model, Settings]) -> None:
    desk, model, _ = talking
    model.script = [calls("record_usage", **CALL), calls("get_usage", period="eternally"), says("I cannot do that.")]
    assert (await ask(desk, "record a call"))["content"] == "I cannot do that."
    assert "there is no tool record_usage" in model.asked[1]["messages"][-1]["content"]
    assert model.asked[2]["messages"][-1]["content"].startswith("error: ")
    usage = (await desk.client.get("/api/usage/daily", params={"component": "rhetor"})).json()
    assert usage["totals"]["requests"] == 1


async def test_without_budget_it_is_not_asked(talking: tuple[Desk, Model, Settings]) -> None:
    desk, model, _ = talking
    limit = {"period": "daily", "limit": "0.000001", "policy": "HARD_LIMIT", "scope": {"component": "budget-ai"}}
    await _post(desk, "/api/limits", limit)
    reply = await ask(desk)
    assert reply["content"].startswith(
        "The budget of the language model does not allow another call. So this is the answer"
    )
    assert f"rhetor spent {COST} USD" in reply["content"]
    assert (model.asked, reply["usage"]["total_tokens"]) == ([], 0)


@pytest.mark.parametrize(
    ("answer", "says_why"),
    [
        pytest.param(JSONResponse({"error": "no"}, 400), "refused the question", id="it refuses"),
        pytest.param(Response("<html>", 200), "refused the question", id="it is no such endpoint"),
        pytest.param({"choices": [], "usage": USAGE}, "something else than an answer", id="no choice"),
        pytest.param(says(""), "gave no answer", id="an empty answer"),
    ],
)
async def test_a_model_that_fails_leaves_the_answer_without_it(
    talking: tuple[Desk, Model, Settings], answer: Any, says_why: str
) -> None:
    desk, model, _ = talking
    model.script = [answer]
    reply = await ask(desk)
    assert says_why in reply["content"]
    assert f"rhetor spent {COST} USD" in reply["content"]


async def test_nothing_stays_held_for_a_model_that_cannot_be_reached(talking: tuple[Desk, Model, Settings]) -> None:
    desk, _, here = talking
    away = here.model_copy(
        update={"ai_port": free_port(), "ai_base_url": SecretStr(f"http://127.0.0.1:{free_port()}/v1")}
    )
    async with open_specialist(away) as alone:
        assert "cannot be reached" in (await ask(alone))["content"]
    assert (await recorded(desk, 0))["requests"] == 0


async def test_usage_that_it_does_not_tell_is_counted_from_the_texts(talking: tuple[Desk, Model, Settings]) -> None:
    desk, model, _ = talking
    model.script = [{**says("I do not know."), "usage": None}]
    await ask(desk)
    totals = await recorded(desk, 1)
    assert totals["input_tokens"] > 100
    assert totals["output_tokens"] > 1


async def test_a_gateway_that_goes_away_is_said(settings: Settings) -> None:
    here = settings.model_copy(update={"port": free_port(), "ai_port": free_port()})
    async with open_specialist(here) as desk:
        reply = await ask(desk)
    assert (reply["type"], "does not answer" in reply["error"]) == ("error", True)
    assert isinstance(desk.client, httpx2.AsyncClient)
    assert Chat(content="x").history is None
