"""One question -> one answer: by the language model if there is one and its answer is true, else by the engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx2
import structlog
from mcp.server.mcpserver.exceptions import ToolError

from budget_bus import __version__, metrics
from budget_bus.errors import Rejected
from budget_bus.mcp.rest import Rest
from budget_bus.mcp.tools import Tools
from budget_bus.specialist import engine, protocol
from budget_bus.specialist.calling import READ_ONLY
from budget_bus.specialist.evidence import Evidence
from budget_bus.specialist.grammar import EXAMPLES
from budget_bus.specialist.llm import Llm, NoAnswer, Usage
from budget_bus.specialist.periods import Now
from budget_bus.specialist.protocol import Chat

ENGINE: Final = "intents"
_COMPONENT: Final = "budget"
_DESCRIPTION: Final = (
    "The budget specialist: answers questions about what language models cost, from the live books. Every figure that "
    "it says is one that the books have, or an exact sum, difference, product or share of such figures."
)

log = structlog.get_logger()


def utc_now() -> datetime:
    """The system clock."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Answered:
    """An answer, who gave it, on what it rests, and what the language model used for it, also if it was not taken."""

    content: str
    model: str
    evidence: Evidence
    usage: Usage = field(default_factory=Usage)


@dataclass(slots=True)
class Desk:
    """
    Answers the lines of the protocol. *client* asks the gateway, with the key that it was given: nobody learns more
    here than that key may read.
    """

    client: httpx2.AsyncClient
    timezone: str
    llm: Llm | None = None
    clock: Callable[[], datetime] = utc_now
    clients: Callable[[], int] = lambda: 0
    port: int = 0

    async def answer(self, line: bytes) -> bytes:
        """The reply to one request line; never raises."""
        try:
            return await self._reply(protocol.read_line(line))
        except Rejected as error:
            return protocol.error(str(error))
        except ToolError as error:
            metrics.SPECIALIST_ANSWERS.labels("unavailable").inc()
            return protocol.error(str(error))
        except Exception:
            # A fault of ours must cost one answer, not the clients' connections.
            metrics.SPECIALIST_ANSWERS.labels("failed").inc()
            log.exception("a question could not be answered")
            return protocol.error(
                "this question could not be answered, through a fault of the specialist; its log has it"
            )

    async def _reply(self, request: Mapping[str, Any]) -> bytes:
        match request.get("type"):
            case "ping":
                return protocol.reply("pong")
            case "health":
                return protocol.reply("health_response", **await self._health())
            case "info":
                return protocol.reply("info_response", **self._info())
            case "chat":
                return await self._chat(protocol.read_chat(request))
        raise Rejected("a request has a type: ping, health, info or chat")

    async def ask(self, chat: Chat) -> Answered:
        """
        Answer a question.

        Raises:
            ToolError: in plain words, what the service refuses, or that it is away.
        """
        before = [turn.content for turn in chat.history or () if turn.asks and turn.content.strip()]
        usage, note = Usage(), ""
        if self.llm is not None:
            evidence = self._evidence()
            try:
                said = await self.llm.answer(chat, evidence, usage, self._now(), await self._clerk(chat, before))
                return Answered(said, self.llm.name, evidence, usage)
            except NoAnswer as error:
                note = f"{error} So this is the answer without it.\n"
                log.info("answered without the language model", reason=str(error))
        evidence = self._evidence()
        said = await engine.answer(chat.content, before, evidence, self._now(), component=chat.component)
        return Answered(note + said, ENGINE, evidence, usage)

    async def _clerk(self, chat: Chat, before: Sequence[str]) -> Callable[[str, Evidence], Any]:
        async def ask_the_engine(question: str, evidence: Evidence) -> str:
            return await engine.answer(question, before, evidence, self._now(), component=chat.component)

        return ask_the_engine

    async def _chat(self, chat: Chat) -> bytes:
        started = time.monotonic()
        answered = await self.ask(chat)
        metrics.SPECIALIST_ANSWERS.labels("engine" if answered.model == ENGINE else "model").inc()
        return protocol.reply(
            "response",
            content=answered.content,
            model=answered.model,
            usage=answered.usage.to_json(),
            latency=round(time.monotonic() - started, 3),
            sources=[{"tool": one.tool, "arguments": dict(one.arguments)} for one in answered.evidence.results],
        )

    async def _health(self) -> dict[str, Any]:
        try:
            response = await self.client.get("/health/ready")
            well = response.status_code == 200
        except httpx2.HTTPError:
            well = False
        return {
            "status": "healthy" if well else "degraded",
            "component": _COMPONENT,
            "model": self._model,
            "clients": self.clients(),
        }

    def _info(self) -> dict[str, Any]:
        return {
            "component": _COMPONENT,
            "description": _DESCRIPTION,
            "version": __version__,
            "model": self._model,
            "tools": list(READ_ONLY),
            "examples": list(EXAMPLES),
            "port": self.port,
        }

    @property
    def _model(self) -> str:
        return self.llm.name if self.llm else ENGINE

    def _evidence(self) -> Evidence:
        return Evidence(Tools(Rest(self.client)), ZoneInfo(self.timezone))

    def _now(self) -> Now:
        return Now(self.clock(), self.timezone)
