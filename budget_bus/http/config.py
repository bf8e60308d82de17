"""/api/config: the settings that can be changed while everything runs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from budget_bus.http.config_keys import KEYS, Key, find_key
from budget_bus.http.parts import Call, Parts
from budget_bus.http.query import Page, Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.store import config


class ConfigBody(BaseModel):
    """The value to set; its type is the key's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Any


class ConfigView(BaseModel):
    """
    One run-time setting. `value` is what is in force and `source` where it is from; `default` is what holds without a
    value of run time: that of the environment or `.env.budget`, else the built-in one.
    """

    key: str
    value: Any
    default: Any
    source: Literal["default", "setting", "run-time"]
    description: str


class ConfigList(BaseModel):
    """All run-time settings."""

    items: list[ConfigView]
    next_cursor: str | None


async def list_config(call: Call[Page, None]) -> Answer:
    """All run-time settings, on one page."""
    values = await config.values(call.parts.pool, list(KEYS))
    items = [_view(call.parts, key, values) for key in KEYS.values()]
    return Answer(ConfigList(items=items, next_cursor=None))


async def get_config(call: Call[Query, None]) -> Answer:
    """One run-time setting."""
    key = find_key(call.path["key"])
    return Answer(_view(call.parts, key, await config.values(call.parts.pool, [key.name])))


async def set_config(call: Call[Query, ConfigBody]) -> Answer:
    """
    Set it; in force from the next decision on.

    Raises:
        NotFound: there is no such key. Rejected: names `value` and what it may be.
    """
    key = find_key(call.path["key"])
    value = key.read(call.body.value)
    await config.set_value(call.parts.pool, key.name, value, actor=call.actor)
    return Answer(_view(call.parts, key, {key.name: value}))


async def unset_config(call: Call[Query, None]) -> Answer:
    """Give it back to the settings; what holds then is the answer."""
    key = find_key(call.path["key"])
    await config.unset_value(call.parts.pool, key.name, actor=call.actor)
    return Answer(_view(call.parts, key, {}))


def _view(parts: Parts, key: Key, values: dict[str, Any]) -> ConfigView:
    default, origin = key.unset(parts.settings)
    here = key.name in values
    return ConfigView(
        key=key.name,
        value=values[key.name] if here else default,
        default=default,
        source="run-time" if here else origin,
        description=key.description,
    )


_TAGS = ("administering",)
ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/config",
        summary="Run-time settings",
        handle=list_config,
        query=Page,
        answers={200: ConfigList},
        tags=_TAGS,
    ),
    Endpoint(
        method="GET",
        path="/api/config/{key}",
        summary="One run-time setting",
        handle=get_config,
        answers={200: ConfigView},
        tags=_TAGS,
    ),
    Endpoint(
        method="PUT",
        path="/api/config/{key}",
        summary="Set a run-time setting",
        handle=set_config,
        body=ConfigBody,
        answers={200: ConfigView},
        tags=_TAGS,
    ),
    Endpoint(
        method="DELETE",
        path="/api/config/{key}",
        summary="Give a run-time setting back to the settings",
        handle=unset_config,
        answers={200: ConfigView},
        tags=_TAGS,
    ),
)
