"""Which other models of a provider could answer the same call."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Final

from budget_bus.providers import data
from budget_bus.providers.book import Entry, find_entry, list_models, price_of
from budget_bus.providers.names import canonical_provider
from budget_bus.providers.prices import quarter_of

# Words in the names of models that do something else than answer a text. Safety models judge texts instead of
# answering them, search and research models charge for more than their tokens, fine-tuned ones have names of their own.
_SPECIAL: Final = re.compile(
    r"(?<![a-z])("
    r"embed|embedding|embeddings|e5|bge|rerank|reranker|"
    r"audio|sonic|speech|tts|transcribe|translate|voice|voxtral|whisper|orpheus|realtime|live|streaming|"
    r"image|banana|video|omni|ocr|"
    r"moderation|guard|safeguard|safety|"
    r"search|online|research|computer|robotics|"
    r"ft|extended"
    r")(?![a-z])"
)
# These only complete a text, on another endpoint (https://platform.openai.com/docs/deprecations, 2023-07-06).
_COMPLETION_ONLY: Final = re.compile(r"(?:text-)?(?:ada|babbage|curie|davinci)\b|gpt-3\.5-turbo-instruct")
# What an answer of a text model never has.
_OTHER_OUTPUT: Final = ("output_audio_mtok", "output_image_mtok", "output_video_mtok", "audio_hours")

# 20250929, 2024-05-13, 0613 or 2507 behind a dash or an at.
_DATE: Final = re.compile(r"[-@](?:20\d{2}-?\d{2}-?\d{2}|\d{4})(?=$|[-:@])")


def siblings(provider: str, at: datetime) -> tuple[str, ...]:
    """
    The models of *provider* in the price book that could answer a chat or text call at the aware instant *at*.

    A model of the book is left out when
    * it is marked as deprecated;
    * at *at* its input or its output has no price per token, or a price of zero;
    * a word of its name or a price for spoken, drawn or filmed output says that it is not for text alone: embeddings,
      reranking, audio, realtime, images, OCR, moderation, search, deep research, computer use, robots, fine-tuning;
    * it only completes texts (davinci and the like);
    * its own name does not find it, so that a call of that name would be priced otherwise or not at all;
    * its name has a date and the name without the date finds another model that is here.
    Models for which another provider's prices stand in (Azure's of OpenAI) are not known to be there, and a model that
    was switched off without being marked so is not known to be gone. An unknown or local provider has none.
    """
    return _siblings(canonical_provider(provider), quarter_of(at))


def converses(provider: str, model: str, at: datetime) -> bool:
    """Whether the price book has *model* as one for chat or text, by the rules of `siblings`, dated or not."""
    return _converses(canonical_provider(provider), model, quarter_of(at))


@lru_cache(maxsize=4096)
def _converses(provider: str, model: str, at: datetime) -> bool:
    entry = find_entry(provider, model)
    return entry is not None and _is_named_for_text(entry.model.id) and _is_priced_for_text(entry, at)


@lru_cache(maxsize=256)
def _siblings(provider: str, at: datetime) -> tuple[str, ...]:
    found = {name: entry for name, entry in _named(provider).items() if _is_priced_for_text(entry, at)}
    return tuple(name for name in found if not _is_snapshot(provider, name, found))


@lru_cache(maxsize=64)
def _named(provider: str) -> dict[str, Entry]:
    """
    The provider's models that are for text by their names, and are found by them.

    Remembered apart from their prices: looking up every name of the largest provider takes a fifth of a second.
    """
    entries = {name: find_entry(provider, name) for name in list_models(provider) if _is_named_for_text(name)}
    return {name: e for name, e in entries.items() if e is not None and e.own and e.model.id == name}


def _is_named_for_text(name: str) -> bool:
    plain = name.lower()
    return not _SPECIAL.search(plain) and not _COMPLETION_ONLY.match(plain)


def _is_priced_for_text(entry: Entry, at: datetime) -> bool:
    listed = entry.model.get_prices(at).__dict__
    if entry.model.deprecated or any(listed.get(key) is not None for key in _OTHER_OUTPUT):
        return False
    price = price_of(entry, at, "standard")
    return price is not None and price.input.base > 0 and price.output.base > 0


def _is_snapshot(provider: str, name: str, found: dict[str, Entry]) -> bool:
    undated = _DATE.sub("", name)
    alias = find_entry(provider, undated) if undated != name else None
    return alias is not None and alias.model.id != name and alias.model.id in found


for _remembered in (_converses, _siblings, _named):
    data.on_change(_remembered.cache_clear)
