"""The tools that a language model may call: those of the agents that only read, and the engine itself."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, get_type_hints

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from budget_bus.mcp import tools
from budget_bus.mcp.server import READS, TOOLS
from budget_bus.specialist.evidence import Evidence

ENGINE_TOOL: Final = "answer_question"
_MOST_CHARS: Final = 20_000  # of one result: what does not fit a model's window only makes it err
# recommend_model asks the decider, which logs its answers; a question must leave no trace in the log of decisions.
READ_ONLY: Final = tuple(
    tool.__name__ for tool, hints in TOOLS.items() if hints is READS and tool.__name__ != "recommend_model"
)

Clerk = Callable[[str, Evidence], Awaitable[str]]


class Ask(BaseModel):
    """
    Ask a plain question, such as "can ergon run more opus calls?" or "what did codex spend last week?", and be told the
    answer with its arithmetic. The best tool for what is left, for affordability, comparisons, forecasts and rankings.
    """

    model_config = ConfigDict(extra="forbid")

    question: str = Field(description="one question in plain English, with the names as the user wrote them")


def _arguments(name: str) -> type[BaseModel]:
    tool = getattr(tools.Tools, name)
    hints = get_type_hints(tool, vars(tools), include_extras=True)
    fields: dict[str, Any] = {
        one.name: (hints[one.name], ... if one.default is one.empty else one.default)
        for one in list(inspect.signature(tool).parameters.values())[1:]
    }
    return create_model(name, __config__=ConfigDict(extra="forbid"), __doc__=inspect.getdoc(tool), **fields)


MODELS: Final[Mapping[str, type[BaseModel]]] = {**{name: _arguments(name) for name in READ_ONLY}, ENGINE_TOOL: Ask}


def declared() -> list[dict[str, Any]]:
    """The tools as chat completions take them."""
    return [
        {
            "type": "function",
            "function": {"name": name, "description": inspect.getdoc(model), "parameters": model.model_json_schema()},
        }
        for name, model in MODELS.items()
    ]


async def run(name: str, raw: str, evidence: Evidence, clerk: Clerk) -> str:
    """What to tell the model of its call; a mistake of it, or a refusal of the service, is told as such."""
    try:
        model = MODELS[name]
        arguments = model.model_validate_json(raw or "{}").model_dump(exclude_none=True)
    except KeyError:
        return f"error: there is no tool {name}; there are {', '.join(MODELS)}"
    except ValidationError as error:
        return f"error: {error}"
    try:
        if name == ENGINE_TOOL:
            return await clerk(arguments["question"], evidence)
        return json.dumps(await evidence.ask(name, **arguments))[:_MOST_CHARS]
    except ToolError as error:
        return f"error: {error}"
