"""`budget allocate`: parts of budgets, under the words of the platform; `budget limits` does the same and more."""

from __future__ import annotations

from typing import Annotated

import typer

from budget_bus.cli.gateway import ask, items
from budget_bus.cli.limit_words import BudgetArgument, budget_id_of, measure, number
from budget_bus.cli.render import Format, FormatOption, show
from budget_bus.errors import Rejected

allocate = typer.Typer(help="Give components parts of a budget, list them, and take them back.", no_args_is_help=True)

_COLUMNS = {
    "Allocation id": "budget_id",
    "Name": "name",
    "Scope": "scope",
    "Part of": "parent_name",
    "Percent": "percent",
    "Period": "period",
    "Limit": "limit",
    "Spent": "spent",
    "Available": "available",
}


@allocate.command("create")
def create(
    parent: Annotated[str, typer.Argument(metavar="BUDGET", help="Of which budget, by its id or name.")],
    percent: Annotated[str, typer.Argument(metavar="PERCENT", help="How much of it, e.g. 30 or 12.5.")],
    *,
    component: Annotated[list[str], typer.Option(help="Who gets it; repeat it to share it among several.")],
) -> None:
    """
    Give a component a part of a budget; it follows its parent's limit.

    Example: budget allocate create daily 30 --component rhetor
    """
    scope = {"component": component[0] if len(component) == 1 else component}
    body = {"parent": budget_id_of(parent), "percent": number(percent, "PERCENT"), "scope": scope}
    status, made = ask("POST", "/api/limits", body=body)
    done = "created" if status == 201 else "changed"
    print(f"{done} {made['budget_id']}: {made['percent']} % of {parent}, {measure(made, 'limit')} {made['period']}")


@allocate.command("list")
def list_allocations(form: FormatOption = Format.TABLE) -> None:
    """
    List the parts that were given.

    Example: budget allocate list --format csv
    """
    found = items("/api/limits")
    names = {budget["budget_id"]: budget["name"] for budget in found}
    rows = [{**one, "parent_name": names.get(one["parent"])} for one in found if one.get("parent")]
    show(rows, _COLUMNS, form, empty="no allocations; make one: budget allocate create daily 30 --component rhetor")


@allocate.command("release")
def release(allocation: BudgetArgument) -> None:
    """
    Take a part back; what was recorded stays.

    Example: budget allocate release 6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10
    """
    budget_id = budget_id_of(allocation)
    _, budget = ask("GET", f"/api/limits/{budget_id}")
    if not budget.get("parent"):
        raise Rejected(f"{budget['name']!r} is no allocation; `budget limits remove` removes any budget")
    ask("DELETE", f"/api/limits/{budget_id}")
    print(f"released {budget_id}")
