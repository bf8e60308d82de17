"""What is remembered of a stream while it passes: enough for its usage, within bounds, and nothing that is not told."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from typing import Any

from budget_bus.client.texts import text_of

# ruff: noqa: PLC0415 - the reading of usage is heavy, and most clients never stream.

MAX_TEXT = 1_000_000  # characters that are kept to be counted; no model puts out as many
_MAX_KINDS = 64  # of chunks that are told apart
_MAX_WORD = 256  # ids and names of models are shorter, texts need not be kept
_MAX_ITEMS = 64
_MAX_DEPTH = 12

log = logging.getLogger(__name__)


class Seen:
    """
    One stream. Its chunks are kept by their kind, that is by which keys they have: what a provider sends again and
    again, text or running totals, is laid over what it sent before.
    """

    def __init__(self, provider: str, model: str) -> None:
        self._provider = provider
        self._model = model
        self._first: Mapping[str, Any] | None = None
        self._kinds: dict[frozenset[str], Mapping[str, Any]] = {}
        self._text = io.StringIO()
        self._length = 0
        self._known = self._warned = False

    def add(self, chunk: Any) -> None:
        """Look at one chunk. Whatever it is, this must not disturb the one who reads the stream."""
        try:
            self._add(chunk)
        except Exception:
            if not self._warned:
                self._warned = True
                log.warning("a chunk of type %s cannot be read", type(chunk).__name__, exc_info=True)

    def usage(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """
        The usage that the stream told, as `usage_fields` reads it. What it did not tell is `estimated`: the input as
        the check *asked* had it, the output by counting the text that arrived.
        """
        from budget_bus.errors import Rejected
        from budget_bus.producers.responses import usage_fields

        chunks = [self._first, *self._kinds.values()] if self._first is not None else []
        try:
            fields = usage_fields(self._provider, self._model, chunks)
        except Rejected as error:
            log.warning("the stream of a call of %s did not tell its usage: %s", self._model, error)
        except Exception:
            log.exception("the usage of a stream of %s cannot be read", self._model)
        else:
            if fields.get("estimated"):
                # It broke off. Of the text, `usage_fields` was given only what came last.
                fields["output_tokens"] = max(fields["output_tokens"], self._output_tokens())
            return fields
        output = self._output_tokens()
        return {"input_tokens": self._input_tokens(asked, output), "output_tokens": output, "estimated": True}

    def _add(self, chunk: Any) -> None:
        body = _plain(chunk)
        if not isinstance(body, Mapping):
            return
        text = text_of(body)
        self._known = self._known or text is not None
        if text:
            self._length += len(text)
            self._text.write(text[: max(0, MAX_TEXT - self._text.tell())])
        kept = _without_texts(body)
        if self._first is None:
            self._first = kept
            return
        kind = frozenset(_keys(kept))
        # Taken out first: they are in the order of their last chunk.
        self._kinds[kind] = _laid_over(self._kinds.pop(kind, {}), kept)
        if len(self._kinds) > _MAX_KINDS:
            del self._kinds[next(iter(self._kinds))]

    def _output_tokens(self) -> int:
        if self._first is not None and not self._known:
            log.warning("the stream has none of the forms that are known, so nothing of its output is counted")
        text = self._text.getvalue()
        counted = self._count(text)
        return counted if self._length <= len(text) else counted * self._length // len(text)

    def _input_tokens(self, asked: Mapping[str, Any], output: int) -> int:
        if (told := asked.get("input_tokens")) is not None:
            return int(told)
        if (text := asked.get("input_text")) is not None:
            return self._count(str(text))
        # A bare total is for both sides, and nobody said which is how large.
        return max(0, int(asked.get("estimated_tokens") or 0) - output)

    def _count(self, text: str) -> int:
        from budget_bus.providers.counting import count_with
        from budget_bus.providers.registry import provider_of

        return count_with(provider_of(self._provider).vocabulary(self._model), text).tokens if text else 0


def _plain(value: Any) -> Any:
    """An SDK's object as the JSON that it was made of."""
    if isinstance(value, Mapping) or value is None:
        return value
    if hasattr(value, "model_dump"):
        # By alias: Google's SDK has names of Python's style, and its API's names as aliases.
        return value.model_dump(by_alias=True)
    return _object(value)


def _object(value: Any, depth: int = 0) -> Any:
    if depth < _MAX_DEPTH and hasattr(value, "__dict__"):
        return {name: _object(item, depth + 1) for name, item in vars(value).items() if not name.startswith("_")}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple):
        return [_object(item, depth + 1) for item in value]
    return value


def _without_texts(value: Any, depth: int = 0) -> Any:
    """A copy within bounds: long strings are empty, long lists cut, and what is no JSON is left out."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        return {str(key): _without_texts(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_texts(item, depth + 1) for item in value[:_MAX_ITEMS]]
    if isinstance(value, str):
        return value if len(value) <= _MAX_WORD else ""
    return value if isinstance(value, bool | int | float) else None


def _keys(value: Any, path: str = "") -> list[str]:
    """The paths at which something is, and which type of event it is."""
    if isinstance(value, Mapping):
        type_ = [f"{path}type={value['type']}"] if isinstance(value.get("type"), str) else []
        return type_ + [found for key, item in value.items() for found in _keys(item, f"{path}{key}.")]
    if isinstance(value, list):
        return [f"{path}[]", *(found for item in value for found in _keys(item, f"{path}*."))]
    return [] if value is None else [path]


def _laid_over(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{key: _laid_over(old.get(key), item) for key, item in new.items() if item is not None}}
    return new
