"""`python -m budget_bus.cli`: the `budget` command."""

from budget_bus.cli import main

if __name__ == "__main__":
    main()
