"""What each tool does. All answer with structured content, as the REST interface has it, and with plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent
from pydantic import Field

from budget_bus.mcp import wording
from budget_bus.mcp.rest import Rest

Component = Annotated[str, Field(description="who makes the call, e.g. rhetor")]
Provider = Annotated[str, Field(description="openai, anthropic, google, ollama, ...")]
Model = Annotated[str, Field(description="the model's name as its provider writes it")]
InputTokens = Annotated[int | None, Field(description="tokens of the prompt, cached ones included", ge=0)]
OutputTokens = Annotated[int | None, Field(description="the most tokens the answer may have", ge=0)]
Text = Annotated[str | None, Field(description="the prompt itself, if its tokens are to be counted")]
ContextId = Annotated[str | None, Field(description="the run, session or ticket that the call belongs to")]
TaskType = Annotated[str | None, Field(description="what kind of task it is")]
Period = Literal["hourly", "daily", "weekly", "monthly"]
Groups = Annotated[
    list[Literal["component", "provider", "model", "task_type", "user", "context_id"]] | None,
    Field(description="what to break the numbers down by"),
]
Moment = Annotated[str | None, Field(description="RFC 3339, e.g. 2026-11-01T00:00:00Z")]
Several = str | list[str] | None
Count = Annotated[int, Field(description="at most so many", ge=1, le=1000)]
Names = Annotated[list[str] | None, Field(description='other models that would do as well, each as "provider/model"')]

_LOCAL = ("ollama",)  # what runs at home costs nothing


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools for one caller."""

    rest: Rest

    async def check_budget(
        self,
        *,
        component: Component,
        provider: Provider,
        model: Model,
        input_tokens: InputTokens = None,
        max_output_tokens: OutputTokens = None,
        estimated_tokens: Annotated[int | None, Field(description="tokens in all, if no more is known", ge=0)] = None,
        input_text: Text = None,
        task_type: TaskType = None,
        context_id: ContextId = None,
        hold: Annotated[bool, Field(description="set the amount aside until the call is recorded")] = True,
        request_id: Annotated[str | None, Field(description="a UUID; asking again with it is safe")] = None,
    ) -> CallToolResult:
        """
        May this call be made within the budgets? Ask before an expensive call, with one estimate: input_tokens (and
        max_output_tokens), input_text, or estimated_tokens. An allowed call holds its cost until record_usage is called
        with its request_id. A denial says which budget binds, when it frees up, and what would fit instead.
        """
        asked = {"component": component, "provider": provider, "model": model, "input_tokens": input_tokens,
                 "max_output_tokens": max_output_tokens, "estimated_tokens": estimated_tokens, "input_text": input_text,
                 "task_type": task_type, "context_id": context_id, "hold": hold, "request_id": request_id}  # fmt: skip
        answer = await self.rest.ask("POST", "/api/check", body=asked)
        return _told(wording.decision(answer), answer)

    async def record_usage(
        self,
        *,
        component: Component,
        provider: Provider,
        model: Model,
        input_tokens: Annotated[int, Field(description="tokens of the prompt, cached ones included", ge=0)],
        output_tokens: Annotated[int, Field(description="tokens of the answer, reasoning included", ge=0)],
        request_id: Annotated[str | None, Field(description="of the check whose hold this settles")] = None,
        event_id: Annotated[str | None, Field(description="a UUID; recording again with it counts once")] = None,
        task_type: TaskType = None,
        context_id: ContextId = None,
    ) -> CallToolResult:
        """Record a call that was made, once it is done: tokens in, tokens out. Says what it cost."""
        event = {"component": component, "provider": provider, "model": model, "input_tokens": input_tokens,
                 "output_tokens": output_tokens, "request_id": request_id, "event_id": event_id, "task_type": task_type,
                 "context_id": context_id}  # fmt: skip
        answer = await self.rest.ask("POST", "/api/record", body=event, query={"wait": "true"})
        result = answer["results"][0] if "results" in answer else answer
        return _told(wording.recorded(result), result)

    async def get_budget_status(self) -> CallToolResult:
        """Every budget with what is spent, held and left in its present window, and whether the service is well."""
        status = await self.rest.ask("GET", "/api/status")
        stale = "Decisions are made on old numbers. " if status["stale"] else ""
        return _told(stale + wording.budgets(status["budgets"]), status)

    async def get_usage(
        self,
        *,
        period: Period = "daily",
        group_by: Groups = None,
        component: Annotated[Several, Field(description="only this component, or these")] = None,
        provider: Annotated[Several, Field(description="only this provider, or these")] = None,
        model: Annotated[Several, Field(description="only this model, or these")] = None,
        task_type: Annotated[Several, Field(description="only this kind of task, or these")] = None,
        user: Annotated[Several, Field(description="only this user, or these")] = None,
        start_date: Moment = None,
        end_date: Moment = None,
    ) -> CallToolResult:
        """Calls, tokens and cost of the present hour, day, week or month, or of any span, in groups if you like."""
        query = {"group_by": ",".join(group_by or ()) or None, "component": component, "provider": provider,
                 "model": model, "task_type": task_type, "user": user, "start": start_date,
                 "end": end_date}  # fmt: skip
        report = await self.rest.ask("GET", f"/api/usage/{period}", query=query)
        return _told(wording.usage(report), report)

    async def list_limits(
        self, *, component: Annotated[str | None, Field(description="only budgets that name it")] = None
    ) -> CallToolResult:
        """The budgets in force: limit, scope, policy and balance of each."""
        page = await self.rest.ask("GET", "/api/limits", query={"component": component, "page_size": 1000})
        return _told(wording.budgets(page["items"]), page)

    async def recommend_model(
        self,
        *,
        component: Component,
        provider: Provider,
        model: Model,
        input_tokens: Annotated[int, Field(description="tokens of the prompt", ge=0)],
        max_output_tokens: OutputTokens = None,
        alternatives: Names = None,
        task_type: TaskType = None,
    ) -> CallToolResult:
        """
        Which model fits the budgets for the least: the one you mean, those that an operator has named as equivalent,
        those you name, and what the service suggests. Nothing is set aside.
        """
        call = _call(component=component, provider=provider, model=model, input_tokens=input_tokens,
                     max_output_tokens=max_output_tokens, task_type=task_type)  # fmt: skip
        fits = await self._fitting(call, alternatives or [])
        said = [f"{one['provider']}/{one['model']}: {_price(one)}" for one in fits]
        text = "Cheapest first: " + "; ".join(said) + "." if fits else "None of these models fits the budgets."
        return _told(text, {"models": fits})

    async def route_with_budget_awareness(
        self,
        *,
        component: Component,
        provider: Provider,
        model: Model,
        input_tokens: Annotated[int, Field(description="tokens of the prompt", ge=0)],
        max_output_tokens: OutputTokens = None,
        alternatives: Names = None,
        task_type: TaskType = None,
    ) -> CallToolResult:
        """
        The model to use: the one you mean if it fits; else the cheapest that does, of those that an operator has named
        as equivalent, those you name, and what the service suggests; else a free local one among these; else none, and
        why. The cost of the one that is returned is held: record its usage with the request_id.
        """
        call = _call(component=component, provider=provider, model=model, input_tokens=input_tokens,
                     max_output_tokens=max_output_tokens, task_type=task_type)  # fmt: skip
        first = await self.rest.ask("POST", "/api/check", body=call)
        if first["allowed"]:
            text = f"Use {provider}/{model}. {wording.decision(first)}"
            return _told(text, {"provider": provider, "model": model, "decision": first})
        fits = await self._fitting(call, alternatives or [])
        # What costs something is rather what was asked for than what runs at home.
        for one in sorted(fits, key=lambda fit: fit["provider"] in _LOCAL):
            other = {**call, "provider": one["provider"], "model": one["model"]}
            answer = await self.rest.ask("POST", "/api/check", body=other)
            if answer["allowed"]:
                instead = f"Use {one['provider']}/{one['model']} instead of {provider}/{model}"
                text = f"{instead}, which is denied: {first['reason']}. {wording.decision(answer)}"
                return _told(text, {"provider": one["provider"], "model": one["model"], "decision": answer})
        text = f"No model fits. {wording.decision(first)}"
        return _told(text, {"provider": None, "model": None, "decision": first})

    async def explain_decision(
        self, *, request_id: Annotated[str, Field(description="as the check's answer has it")]
    ) -> CallToolResult:
        """Why a check was answered so: the budget that bound, what was left, when it frees up, what would fit."""
        answer = await self.rest.ask("GET", f"/api/decisions/{request_id}")
        return _told(f"Decided at {answer['decided_at']}. {wording.decision(answer)}", answer)

    async def list_decisions(
        self,
        *,
        action: Annotated[Literal["allow", "warn", "degrade", "deny"] | None, Field(description="only these")] = None,
        component: Annotated[Several, Field(description="only checks of this component, or these")] = None,
        model: Annotated[Several, Field(description="only checks for this model, or these")] = None,
        since: Moment = None,
        until: Moment = None,
        count: Count = 10,
    ) -> CallToolResult:
        """What checks were answered, newest first, and why: whether a component was refused, by which budget."""
        query = {"action": action, "component": component, "model": model, "since": since, "until": until,
                 "page_size": count}  # fmt: skip
        page = await self.rest.ask("GET", "/api/decisions", query=query)
        return _told(wording.decisions(page["items"]), page)

    async def list_holds(
        self,
        *,
        state: Annotated[
            Literal["open", "unconfirmed"], Field(description="unconfirmed ones have expired, and nothing was heard")
        ] = "open",
        component: Annotated[Several, Field(description="only those of this component, or these")] = None,
        count: Count = 100,
    ) -> CallToolResult:
        """What is set aside for calls that are not recorded yet, oldest first."""
        page = await self.rest.ask(
            "GET", "/api/holds", query={"state": state, "component": component, "page_size": count}
        )
        return _told(wording.holds(page["items"]), page)

    async def list_alerts(
        self,
        *,
        acknowledged: Annotated[bool | None, Field(description="whether somebody took note of it")] = None,
        count: Count = 10,
    ) -> CallToolResult:
        """Alerts that budgets have raised, newest first."""
        page = await self.rest.ask("GET", "/api/alerts", query={"acknowledged": acknowledged, "page_size": count})
        return _told(wording.alerts(page["items"]), page)

    async def list_prices(
        self,
        *,
        model: Annotated[str, Field(description="a model's name, or a part of it", min_length=1)],
        provider: Annotated[str | None, Field(description="only this provider")] = None,
        count: Count = 20,
    ) -> CallToolResult:
        """What a million tokens of a model cost now: that of the name, else those whose name contains it."""
        query = {"provider": provider, "page_size": 1000}
        exact = await self.rest.ask("GET", "/api/providers/prices", query={**query, "model": model})
        found = exact["items"]
        cursor: str | None = ""
        while cursor is not None and not exact["items"]:
            page = await self.rest.ask("GET", "/api/providers/prices", query={**query, "cursor": cursor or None})
            found += [one for one in page["items"] if model.lower() in one["model"].lower()]
            cursor = page["next_cursor"]
        shown = sorted(found, key=lambda one: (len(one["model"]), one["model"], one["provider"]))[:count]
        return _told(wording.prices(shown), {"items": shown})

    async def forecast(
        self, *, component: Annotated[str | None, Field(description="only budgets that concern it")] = None
    ) -> CallToolResult:
        """What each budget will come to by the end of its window, how sure that is, and when it runs out."""
        found = (await self.rest.ask("GET", "/api/forecasts", query={"component": component}))["items"]
        text = "\n".join(map(wording.outlook, found)) or "There are no budgets."
        return _told(text, {"budgets": found})

    async def optimize(
        self,
        *,
        days: Annotated[int, Field(description="how many days until now to go by", ge=1, le=366)] = 30,
        goal: Annotated[
            Literal["cost", "capacity"] | None, Field(description="only cheaper calls, or only limits; else both")
        ] = None,
        deferrable: Annotated[list[str] | None, Field(description="task types that can wait for a batch")] = None,
    ) -> CallToolResult:
        """
        What would save money: cheaper models that an operator has named as equivalent, prompt caching, the batch tier,
        limits to change; each with what a replay of the past says it would have saved, and the command for it.
        """
        body = {"days": days, "goal": goal, "deferrable": deferrable}
        advice = await self.rest.ask("POST", "/api/optimize", body=body)
        return _told(wording.advice(advice), advice)

    async def plan_budget(
        self,
        *,
        component: Component,
        until: Annotated[str, Field(description="RFC 3339, e.g. 2026-12-01T00:00:00Z")],
        confidence: Annotated[float, Field(description="how sure it is to be", ge=0.5, le=0.99)] = 0.9,
        provider: Annotated[str | None, Field(description="if all planned calls are to it")] = None,
        model: Annotated[str | None, Field(description="if all planned calls are to it")] = None,
        task_type: TaskType = None,
    ) -> CallToolResult:
        """
        How much a component may plan to spend until a moment: what its hard budgets leave, less what all others are
        forecast to spend of them. Says which budget binds. Nothing is set aside.
        """
        query = {"component": component, "until": until, "confidence": confidence, "provider": provider, "model": model,
                 "task_type": task_type}  # fmt: skip
        answer = await self.rest.ask("GET", "/api/plan", query=query)
        return _told(wording.plan(answer), answer)

    async def allocate_budget(
        self,
        *,
        parent: Annotated[str, Field(description="the budget_id of which a part is given")],
        percent: Annotated[float, Field(description="how much of it, in percent", gt=0, le=100)],
        component: Component,
    ) -> CallToolResult:
        """Give a component a part of a budget; the part follows its parent, and all parts have at most 100 percent."""
        body = {"parent": parent, "percent": str(Decimal(str(percent))), "scope": {"component": component}}
        made = await self.rest.ask("POST", "/api/limits", body=body)
        return _told(wording.budget(made), made)

    async def _fitting(self, call: Mapping[str, Any], named: Sequence[str]) -> list[dict[str, Any]]:
        """Of the candidates those that are allowed, cheapest first; unpriced ones last. Nothing is held for them."""
        wanted = {(call["provider"], call["model"]): None, **dict.fromkeys(map(_split, named))}
        groups = (await self.rest.ask("GET", "/api/config/equivalents"))["value"]
        ours = f"{call['provider']}/{call['model']}"
        for group in groups:
            if ours in group:
                wanted |= dict.fromkeys(map(_split, group))
        fits, asked = [], set[tuple[str, str]]()
        while wanted:
            one = next(iter(wanted))
            del wanted[one]
            asked.add(one)
            question = {**call, "provider": one[0], "model": one[1], "hold": False}
            answer = await self.rest.ask("POST", "/api/check", body=question)
            if answer["allowed"]:
                cost = answer["estimated_cost"]
                fits.append({"provider": one[0], "model": one[1], "estimated_cost": cost, "action": answer["action"],
                             "currency": answer["currency"], "price_status": answer["price_status"]})  # fmt: skip
            for other in (answer.get("suggestions") or {}).get("alternatives") or ():
                place = (other["provider"], other["model"])
                wanted |= {} if place in asked else {place: None}
        return sorted(fits, key=lambda fit: (fit["estimated_cost"] is None, Decimal(fit["estimated_cost"] or 0)))


def _call(
    *,
    component: str,
    provider: str,
    model: str,
    input_tokens: int,
    max_output_tokens: int | None,
    task_type: str | None,
) -> dict[str, Any]:
    return {"component": component, "provider": provider, "model": model, "input_tokens": input_tokens,
            "max_output_tokens": max_output_tokens, "task_type": task_type}  # fmt: skip


def _split(name: str) -> tuple[str, str]:
    provider, slash, model = name.partition("/")
    if not (slash and provider and model):
        raise ToolError(f"{name!r} is no model: write provider/model, for example openai/gpt-4o-mini.")
    return provider, model


def _price(fit: Mapping[str, Any]) -> str:
    return (
        "no price is known" if fit["estimated_cost"] is None else f"at most {fit['estimated_cost']} {fit['currency']}"
    )


def _told(text: str, content: Any) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=dict(content))
