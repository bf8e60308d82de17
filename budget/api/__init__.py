"""An alias: `python -m budget.api.app` starts the service."""
