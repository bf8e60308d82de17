"""The lines of the protocol: newline-delimited JSON, one reply for each request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from budget_bus.errors import Rejected

# The name by which the platform's other specialists know this one.
AI_ID: Final = "penia-ci"
LINE_BYTES: Final = 64 * 1024  # without its newline
QUESTION_CHARS: Final = 500  # what the patterns of the grammar go through in milliseconds


def _printable(text: str) -> str:
    # A lone surrogate is valid in JSON and in no request that we could make of it.
    if not text.isprintable() and any(not c.isprintable() and c not in "\n\r\t" for c in text):
        raise ValueError("has characters that cannot be printed")
    return text


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("is missing: write the question, such as 'who spent most today?'")
    return text


def _turn(raw: Any) -> Any:
    return {"content": raw} if isinstance(raw, str) else raw


class Turn(BaseModel):
    """One turn of the conversation so far; a text alone is the user's."""

    model_config = ConfigDict(strict=True)

    role: str = "user"
    content: Annotated[str, AfterValidator(_printable)] = ""

    @property
    def asks(self) -> bool:
        """Whether the user said it."""
        return self.role in ("user", "human")


class Chat(BaseModel):
    """A question; `component` says who "I" is. `temperature` and `max_tokens` are for the language model, if any."""

    model_config = ConfigDict(strict=True)

    content: Annotated[str, AfterValidator(_printable), AfterValidator(_said), Field(max_length=QUESTION_CHARS)]
    history: list[Annotated[Turn, BeforeValidator(_turn)]] | None = None
    component: Annotated[str, AfterValidator(_printable), Field(min_length=1, max_length=200)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = None


def read_line(line: bytes) -> dict[str, Any]:
    """
    The object in *line*.

    Raises:
        Rejected: it is no JSON object.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise Rejected('this is no JSON; a request is one line such as {"type":"ping"}') from None
    if not isinstance(found, dict):
        raise Rejected('a request is a JSON object such as {"type":"ping"}')
    return found


def read_chat(request: Mapping[str, Any]) -> Chat:
    """
    The question of a chat request.

    Raises:
        Rejected: names the field that is wrong.
    """
    fields = {name: request[name] for name in Chat.model_fields if request.get(name) is not None}
    try:
        return Chat.model_validate({"content": "", **fields})
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        where = ".".join(map(str, first["loc"]))
        raise Rejected(f"{where} {cause}" if cause else f"{where}: {first['msg']}") from None


def reply(kind: str, **fields: Any) -> bytes:
    """One line of ours. ASCII, so that no terminal and no decoder stumbles."""
    return json.dumps({"type": kind, "ai_id": AI_ID, **fields}).encode() + b"\n"


def error(text: str) -> bytes:
    """The line that says what is wrong."""
    return reply("error", error=text)
