"""The commands that ask the gateway, on a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.roles import settler
from budget_bus.settings import Settings
from tests.integration.budget_command import budget

EVENT = "2026-01-01T10:00:00Z,{},openai,gpt-4o,1000,100"
HEADER = "occurred_at,component,provider,model,input_tokens,output_tokens"
UUID = "6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10"
SPAN = ("--start", "2026-01-01T00:00:00Z", "--end", "2026-01-02T00:00:00Z")


@pytest.fixture
async def served(kafka: str, settings: Settings) -> AsyncIterator[Settings]:
    await budget(settings, "topics", "apply")
    here = settings.model_copy(update={"port": free_port()})
    async with gateway(here):
        yield here


async def test_set_limit_creates_then_changes_and_keeps_what_is_not_named(served: Settings) -> None:
    first = await budget(served, "set-limit", "daily", "10.0", "--component", "rhetor", "--policy-type", "hard_limit")
    assert first.out.startswith("created ")
    assert 'daily 10 USD for {"component": "rhetor"}, HARD_LIMIT' in first.out
    second = await budget(served, "limits", "set", "daily", "20", "--component", "rhetor", "--threshold", 90)
    assert second.out.startswith("changed ")
    (limit,) = (await budget(served, "limits", "list", "--format", "json")).json
    assert (limit["limit"], limit["policy"], limit["thresholds"]) == ("20", "HARD_LIMIT", [90])
    assert "rhetor" in (await budget(served, "limits", "list")).out
    removed = await budget(served, "limits", "remove", limit["name"])
    assert limit["budget_id"] in removed.out
    assert (await budget(served, "limits", "list", "--format", "json")).json == []
    gone = await budget(served, "limits", "remove", limit["budget_id"], code=1)
    assert limit["budget_id"] in gone.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["set-limit", "daily", "ten"], "'ten' is not a decimal amount", id="no number"),
        pytest.param(["set-limit", "daily", "1.5", "--unit", "tokens"], "not a whole number", id="half a token"),
        pytest.param(["set-limit", "yearly", "1"], "yearly", id="no such period"),
        pytest.param(["set-limit", "daily", "1", "--scope", '{"team": "a"}'], "scope.team", id="no such scope"),
        pytest.param(["set-limit", "daily", "1", "--policy", "STRICT"], "STRICT", id="no such policy"),
        pytest.param(["get-usage", "total"], "total", id="usage of a period it has not"),
        pytest.param(["set-limit", "daily"], "PERIOD and AMOUNT", id="no amount"),
        pytest.param(["set-limit", "--parent", "all"], "--percent", id="a parent without a part of it"),
        pytest.param(["set-limit", "daily", "1", "--percent", "5"], "no AMOUNT", id="an amount and a part"),
        pytest.param(["set-limit", "--parent", UUID, "--percent", "x"], "'x' is not a number", id="a part in words"),
        pytest.param(["set-limit", "daily", "1", "--ttl", "soon"], "30m, 2h or 1d", id="a duration in words"),
        pytest.param(["set-limit", "daily", "1", "--alert-on", "moon"], "forecast", id="alerts that there are not"),
        pytest.param(["limits", "raise", UUID, "5"], "for how long", id="a raise for ever"),
        pytest.param(["limits", "raise", UUID, "much", "--for", "2h"], "'much' is not", id="a raise in words"),
        pytest.param(["limits", "raise", UUID, "5", "--until", "2026-11-01"], "with its zone", id="until a day"),
        pytest.param(["limits", "raise", UUID, "5", "--for", "0h"], "'0h' is not", id="a raise for no time"),
    ],
)
async def test_bad_usage_ends_with_2_and_names_it(settings: Settings, arguments: list[str], says: str) -> None:
    assert says in (await budget(settings, *arguments, code=2)).err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["set-limit", "daily", "1", "--timezone", "Mars/Base"], "timezone: ", id="no such zone"),
        pytest.param(["get-usage", "--group-by", "colour"], "group_by: 'colour' is not one of", id="no such group"),
        pytest.param(["limits", "remove", "nobody"], "no budget is called 'nobody'", id="no such name"),
        pytest.param(["limits", "windows", UUID], f"no budget {UUID}", id="no such id"),
        pytest.param(["limits", "raise", UUID, "5", "--for", "2h"], f"no budget {UUID}", id="nothing to raise"),
        pytest.param(["set-limit", "--parent", UUID, "--percent", "5"], "parent: names no budget", id="no such parent"),
        pytest.param(["set-limit", "total", "1", "--rollover-cap", "1"], "rollover_cap: ", id="no next window"),
    ],
)
async def test_what_the_gateway_refuses_is_said_in_its_words(served: Settings, arguments: list[str], says: str) -> None:
    assert says in (await budget(served, *arguments, code=1)).err


async def test_usage_and_status_show_what_was_imported(served: Settings) -> None:
    file = served.data_dir / "calls.csv"
    file.write_text("\n".join([HEADER, *(EVENT.format(name) for name in ("rhetor", "rhetor", "apollo"))]) + "\n")
    async with settler(served):
        await budget(served, "import", file)
        groups = (await budget(served, "get-usage", "daily", "--group-by", "component", "--format", "csv", *SPAN)).out
        assert groups.splitlines() == [
            "component,requests,input_tokens,output_tokens,total_tokens,cost,currency,unpriced_requests",
            "apollo,1,1000,100,1100,0.0035,USD,0",
            "rhetor,2,2000,200,2200,0.007,USD,0",
        ]
        table = (await budget(served, "get-usage", "--group-by", "component,model", *SPAN)).out
        assert "TOTAL" in table
        usage = (await budget(served, "get-usage", "--format", "json", *SPAN)).json
        assert usage["totals"]["cost"] == "0.0105"
        await budget(served, "set-limit", "total", "1", "--name", "everything ever")
        shown = (await budget(served, "status")).out
        assert f"broker:   ok {served.kafka_bootstrap_servers}" in shown
        assert "everything ever" in shown
        status = (await budget(served, "status", "--format", "json")).json
        assert status["broker"]["bootstrap_servers"] == served.kafka_bootstrap_servers


async def test_no_gateway_is_said_with_what_to_do(settings: Settings) -> None:
    result = await budget(settings, "status", code=1, BUDGET_PORT=str(free_port()))
    assert "no gateway answers at http://127.0.0.1:" in result.err
    assert "budget up" in result.err


async def test_a_limit_is_divided_raised_carried_over_and_given_to_runs(served: Settings) -> None:
    await budget(served, "set-limit", "daily", "10", "--name", "all", "--rollover-cap", "5", "--alert-on", "committed")
    part = await budget(served, "limits", "set", "--parent", "all", "--percent", "30", "--component", "rhetor")
    assert "daily 3 USD (30 % of " in part.out
    run = ("--ttl", "2h", "--unit", "tokens", "--critical-may-pass", "--name", "run")
    await budget(served, "limits", "set", "per_context", "5000", *run)
    raised = await budget(served, "limits", "raise", "all", "2.5", "--for", "2h", "--reason", "a long run")
    assert "12.5 USD by 2.5 USD, the last until " in raised.out
    limits = {limit["name"]: limit for limit in (await budget(served, "limits", "list", "--format", "json")).json}
    assert (limits["all"]["rollover_cap"], limits["all"]["alert_on"]) == ("5", ["committed"])
    assert (limits["run"]["ttl_s"], limits["run"]["critical_may_pass"]) == (7200, True)
    assert limits["daily component=rhetor"]["limit"] == "3.75"
    assert "30 % of all" in (await budget(served, "limits", "list")).out
    assert "no raise is left" in (await budget(served, "limits", "end-raises", "all")).out
    windows = (await budget(served, "limits", "windows", "all", "--format", "csv")).out.splitlines()
    assert (len(windows), windows[1].split(",")[3:8]) == (2, ["10", "0", "0", "0", "10"])
    await budget(served, "limits", "set", "daily", "20", "--rollover-cap", "none")
    (whole,) = [b for b in (await budget(served, "limits", "list", "--format", "json")).json if b["name"] == "all"]
    assert (whole["limit"], whole["rollover_cap"]) == ("20", None)
    refused = await budget(served, "limits", "remove", "all", code=1)
    assert "daily component=rhetor" in refused.err
