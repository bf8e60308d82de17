"""A stream of chunks passed through, and what to record of it, also if it ends before its time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final

# ruff: noqa: PLC0415 - whoever imports a client must not wait for what only the end of a stream needs.

MAX_TEXT: Final = 1_000_000  # characters that are kept; what an answer has beyond is estimated from these
# Where the providers' chunks say what was used, or have something that does.
_USAGE: Final = ("usage", "usage_metadata", "usageMetadata", "metadata", "x_groq", "eval_count", "prompt_eval_count")
_AROUND: Final = ("message", "response")
# The paths of an answer's text in the chunks that are known: OpenAI's chat, completions and responses, Anthropic's,
# Google's, Ollama's. A list on the way stands for all of its members.
_TEXTS: Final = (
    ("choices", "delta", "content"),
    ("choices", "delta", "reasoning_content"),
    ("choices", "delta", "tool_calls", "function", "arguments"),
    ("choices", "text"),
    ("delta", "text"),
    ("delta", "thinking"),
    ("delta", "partial_json"),
    ("delta",),
    ("candidates", "content", "parts", "text"),
    ("message", "content"),
    ("response",),
)

log = logging.getLogger(__name__)


class StreamedUsage:
    """What the chunks of one answer say: its text, and those that have something of usage."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._kept = 0
        self._length = 0
        self._telling: list[Any] = []
        self._told_last = False

    def take(self, chunk: Any) -> None:
        """Remember what matters of *chunk*: a mapping, or an object of a provider's SDK."""
        said = _plain(chunk)
        if not isinstance(said, Mapping):
            return
        tells = _tells(said)
        if tells:
            self._telling.append(said)
            self._told_last = True
        for path in _TEXTS:
            for text in _at(said, path):
                self._told_last = tells
                self._length += len(text)
                if self._kept < MAX_TEXT:
                    self._texts.append(text[: MAX_TEXT - self._kept])
                    self._kept += len(self._texts[-1])

    def fields(self, provider: str, model: str, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """
        What to record: the provider's own numbers if the chunks have them. Of a stream that was broken off before it
        had all of them, an estimate: what was asked for, and the text that came. None if not even that can be said.
        """
        from budget_bus.errors import Rejected
        from budget_bus.producers.responses import usage_fields

        if self._telling:
            try:
                found = usage_fields(provider, model, self._telling)
            except (Rejected, ValueError, KeyError, TypeError) as error:
                log.info("the stream does not say what was used: %s", error)
            else:
                said = {name: value for name, value in found.items() if name not in ("provider", "model", "event_id")}
                # What a provider says before the answer is of its beginning: the input holds, the output does not.
                return said if self._told_last else {**_input_side(said), **self._output(), "estimated": True}
        put_in = _first(asked, "input_tokens", "input_text", "estimated_tokens")
        return None if put_in is None else {**put_in, **self._output(), "estimated": True}

    def _output(self) -> dict[str, Any]:
        if self._length > self._kept:
            # Of the rest only the length is known; a token has at least a character, so this is not too little.
            return {"output_tokens": self._length}
        return {"output_text": "".join(self._texts)} if self._texts else {"output_tokens": 0}


def _tells(said: Mapping[str, Any]) -> bool:
    around = (said.get(name) for name in _AROUND)
    inner = any(isinstance(one, Mapping) and one.get("usage") is not None for one in around)
    return inner or any(said.get(name) is not None for name in _USAGE)


def _input_side(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if "output" not in name}


def _first(asked: Mapping[str, Any], *names: str) -> dict[str, Any] | None:
    name = next((name for name in names if asked.get(name) is not None), None)
    return None if name is None else {"input_text" if name == "input_text" else "input_tokens": asked[name]}


def _plain(chunk: Any) -> Any:
    dump = getattr(chunk, "model_dump", None) or getattr(chunk, "to_dict", None)
    return dump() if dump is not None and not isinstance(chunk, Mapping) else chunk


def _at(node: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _at(item, path)
    elif path and isinstance(node, Mapping):
        yield from _at(node.get(path[0]), path[1:])
    elif not path and isinstance(node, str):
        yield node
