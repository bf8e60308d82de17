"""A component as a process of its own: it makes calls one after the other and prints each one's id and tokens."""

from __future__ import annotations

import sys

from budget_bus.client import BudgetClient


def main(port: str, spool: str, count: str) -> None:
    call = {"component": "rhetor", "provider": "anthropic", "model": "claude-3-opus"}
    with BudgetClient(port=int(port), timeout=10, spool=spool, on_unavailable="allow") as client:
        for tokens in range(1, int(count) + 1):
            with client.guard(**call, input_tokens=tokens, max_output_tokens=10) as guarded:
                told = guarded.settle(input_tokens=tokens, output_tokens=1)
            # Only now has the caller been told that it is recorded or kept.
            print(told["event_id"], tokens, told["status"], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
