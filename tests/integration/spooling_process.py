"""A component as a process of its own: it records calls one after the other and prints each one's id and tokens."""

from __future__ import annotations

import sys

from budget_bus.client import BudgetClient


def main(port: str, spool: str, count: str) -> None:
    with BudgetClient(port=int(port), timeout=0.5, spool=spool) as client:
        for tokens in range(1, int(count) + 1):
            told = client.record_usage(
                component="rhetor",
                provider="anthropic",
                model="claude-3-opus",
                input_tokens=tokens,
                output_tokens=1,
            )
            # Only now has the caller been told that it is recorded or kept.
            print(told["event_id"], tokens, told["status"], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
