"""`python -m budget.api.app [--debug]`: what `budget up` runs, or the gateway alone when something is configured."""

from budget_bus.cli import main_of_api_app

if __name__ == "__main__":
    main_of_api_app()
