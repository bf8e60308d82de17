"""A language model behind an OpenAI-compatible endpoint: budgeted, recorded, and believed only figure by figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import httpx2
import structlog
from mcp.server.mcpserver.exceptions import ToolError

from budget_bus.errors import Rejected
from budget_bus.mcp.rest import Rest
from budget_bus.producers.responses import usage_fields
from budget_bus.specialist import calling
from budget_bus.specialist.calling import Clerk
from budget_bus.specialist.evidence import Evidence
from budget_bus.specialist.figures import figures
from budget_bus.specialist.periods import Now
from budget_bus.specialist.protocol import Chat

COMPONENT: Final = "budget-ai"
_MOST_ROUNDS: Final = 6
_MOST_TOKENS: Final = 1024
_MOST_ANSWER_BYTES: Final = 2_000_000
_SYSTEM: Final = """\
You answer questions about what language models cost and about their budgets. Now it is {now}, time zone {zone}.
Call the tools before you answer; they read the live books. Every figure in your answer must be one that a tool has
returned, written with the same digits: never round, estimate, convert or add up yourself, and write no number in words.
If the tools do not tell, say so. Answer in at most five plain sentences, without markup."""
_AGAIN: Final = """\
These figures of your answer are in no tool's result: {unknown}. Answer again, with figures of the results only."""

log = structlog.get_logger()


class NoAnswer(Exception):
    """The model gave no answer that may be passed on; the text is a sentence for the client."""


@dataclass(slots=True)
class Usage:
    """What the model used for one answer, over all calls."""

    input_tokens: int = 0
    output_tokens: int = 0

    def to_json(self) -> dict[str, int]:
        """As the protocol has it."""
        total = self.input_tokens + self.output_tokens
        return {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens, "total_tokens": total}


@dataclass(slots=True)
class Llm:
    """*client* has the endpoint's address and key; *rest* is the gateway, where each call is checked and recorded."""

    client: httpx2.AsyncClient
    rest: Rest
    provider: str
    model: str
    _declared: list[dict[str, Any]] = field(default_factory=calling.declared)

    @property
    def name(self) -> str:
        """The model as it is told to clients."""
        return f"{self.provider}/{self.model}"

    async def answer(self, chat: Chat, evidence: Evidence, usage: Usage, now: Now, clerk: Clerk) -> str:
        """
        The model's answer, if each of its figures is in a result of the tools that it called. It may try twice.

        Raises:
            NoAnswer: it invents figures, its budget denies it, or it is away.
        """
        talk = _Talk(self, chat, evidence, usage, clerk, _opening(chat, now))
        said = await talk.turn()
        unknown = talk.invented(said)
        if unknown:
            log.warning("the language model invented figures", figures=unknown)
            talk.messages.append({"role": "user", "content": _AGAIN.format(unknown=", ".join(unknown))})
            said = await talk.turn()
            if talk.invented(said):
                raise NoAnswer("The language model said figures that are not in the books.")
        return said

    async def complete(self, body: Mapping[str, Any], usage: Usage) -> Mapping[str, Any]:
        """
        One call: checked and its cost held before, its usage recorded after.

        Raises:
            NoAnswer: as `answer`; when nothing was sent, nothing stays held.
        """
        request_id = await self._allowed(body)
        try:
            response = await self.client.post("chat/completions", json=body)
        except (httpx2.ConnectError, httpx2.UnsupportedProtocol) as error:
            await self._release(request_id, "nothing was sent")
            raise NoAnswer("The language model cannot be reached.") from error
        except httpx2.HTTPError as error:
            # It may have worked for us: the hold stays, and becomes unconfirmed.
            raise NoAnswer("The language model did not answer in time.") from error
        answer = _object(response)
        if response.status_code >= 400 or answer is None:
            if 400 <= response.status_code < 500:
                await self._release(request_id, f"the endpoint answered {response.status_code}")
            log.warning("the language model refuses", status=response.status_code, answer=response.text[:500])
            raise NoAnswer("The language model's endpoint refused the question.")
        await self._record(request_id, body, answer, usage)
        return answer

    async def _allowed(self, body: Mapping[str, Any]) -> str:
        request_id = str(uuid4())
        question = {
            **self._who(request_id),
            "input_text": json.dumps([body["messages"], body["tools"]]),
            "max_output_tokens": body["max_tokens"],
            "task_type": "question",
        }
        try:
            decision = await self.rest.ask("POST", "/api/check", body=question)
        except ToolError as error:
            raise NoAnswer(
                f"The language model could not be asked, since its budget could not be checked: {error}"
            ) from None
        if not decision["allowed"]:
            raise NoAnswer("The budget of the language model does not allow another call.")
        return request_id

    def _who(self, request_id: str) -> dict[str, str]:
        return {"request_id": request_id, "component": COMPONENT, "provider": self.provider, "model": self.model}

    async def _release(self, request_id: str, reason: str) -> None:
        try:
            await self.rest.ask("POST", f"/api/holds/{request_id}/release", body={"reason": reason})
        except ToolError as error:
            log.warning("a hold was left to expire", request_id=request_id, reason=str(error))

    async def _record(self, request_id: str, body: Mapping[str, Any], answer: Mapping[str, Any], usage: Usage) -> None:
        event: dict[str, Any] = {**self._who(request_id), "task_type": "question"}
        try:
            event = {**usage_fields(self.provider, self.model, answer), **event}
            event.pop("event_id", None)
            usage.input_tokens += event["input_tokens"]
            usage.output_tokens += event["output_tokens"]
        except Rejected:
            # It does not say what it used: the texts are counted, and the event says so.
            event |= {
                "input_text": json.dumps([body["messages"], body["tools"]]),
                "output_text": json.dumps(answer),
                "estimated": True,
            }
        try:
            await self.rest.ask("POST", "/api/record", body=event)
        except ToolError as error:
            log.warning(
                "a call could not be recorded; its hold becomes unconfirmed", request_id=request_id, reason=str(error)
            )


@dataclass(slots=True)
class _Talk:
    """One conversation with the model, until it answers without calling a tool."""

    llm: Llm
    chat: Chat
    evidence: Evidence
    usage: Usage
    clerk: Clerk
    messages: list[dict[str, Any]]
    _own: set[Any] = field(default_factory=set)  # numbers that it gave to tools itself

    async def turn(self) -> str:
        for _ in range(_MOST_ROUNDS):
            answer = await self.llm.complete(self._body(), self.usage)
            message = _message(answer)
            calls = message.get("tool_calls") or []
            if not calls:
                content = message.get("content")
                if not isinstance(content, str) or not content.strip():
                    raise NoAnswer("The language model gave no answer.")
                self.messages.append({"role": "assistant", "content": content})
                return content.strip()
            self.messages.append({"role": "assistant", "content": message.get("content") or "", "tool_calls": calls})
            for call in calls:
                self.messages.append(await self._called(call))
        raise NoAnswer("The language model came to no end.")

    def invented(self, said: str) -> list[str]:
        """Its figures that are in no result, or only because it had put them into a question itself."""
        asked = {figure.value for figure in figures(self.chat.content)}
        own = {one for one in self._own if one not in asked}
        unknown = self.evidence.known.unknown(said)
        return unknown or [figure.text for figure in figures(said) if figure.kind == "numbers" and figure.value in own]

    async def _called(self, call: Mapping[str, Any]) -> dict[str, Any]:
        function = call.get("function") if isinstance(call, Mapping) else None
        name, raw = (function.get("name"), function.get("arguments")) if isinstance(function, Mapping) else (None, None)
        raw = raw if isinstance(raw, str) else json.dumps(raw or {})
        self._own |= {figure.value for figure in figures(raw) if figure.kind == "numbers"}
        told = await calling.run(str(name), raw, self.evidence, self.clerk)
        identity = call.get("id") if isinstance(call, Mapping) else None
        return {"role": "tool", "tool_call_id": str(identity or name), "content": told}

    def _body(self) -> dict[str, Any]:
        most = min(self.chat.max_tokens or _MOST_TOKENS, _MOST_TOKENS)
        temperature = 0.0 if self.chat.temperature is None else self.chat.temperature
        return {
            "model": self.llm.model,
            "messages": self.messages,
            "tools": self.llm._declared,
            "temperature": temperature,
            "max_tokens": most,
            "stream": False,
        }


def _opening(chat: Chat, now: Now) -> list[dict[str, Any]]:
    system = _SYSTEM.format(now=now.at.isoformat(timespec="minutes"), zone=now.timezone)
    if chat.component:
        system += f'\nThe user asks as the component "{chat.component}".'
    turns = [
        {"role": "user" if turn.asks else "assistant", "content": turn.content}
        for turn in chat.history or ()
        if turn.content.strip()
    ]
    return [{"role": "system", "content": system}, *turns, {"role": "user", "content": chat.content}]


def _object(response: httpx2.Response) -> Mapping[str, Any] | None:
    try:
        found = response.json() if len(response.content) <= _MOST_ANSWER_BYTES else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _message(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        message = answer["choices"][0]["message"]
    except (KeyError, IndexError, TypeError):
        message = None
    if not isinstance(message, dict):
        raise NoAnswer("The language model's endpoint sent something else than an answer.")
    return message
