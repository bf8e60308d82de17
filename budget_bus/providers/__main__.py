"""`python -m budget_bus.providers`: all providers, where each comes from, and plugins that were left out and why."""

from __future__ import annotations

from budget_bus.providers.registry import registry


def main() -> int:
    """Print them; the exit status is 1 if a plugin was left out."""
    found = registry()
    for name in sorted(found.providers):
        aliases = ", ".join(found.providers[name].aliases)
        print(f"{name}  from {found.origins[name]}" + (f"  also {aliases}" if aliases else ""))
    for label, reason in sorted(found.broken.items()):
        print(f"LEFT OUT  {label}: {reason}")
    return 1 if found.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
