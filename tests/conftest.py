"""What all tests share: an environment without this machine's own budget settings, and patient properties."""

from __future__ import annotations

import os

from hypothesis import settings as hypothesis_settings

# A shared machine stalls now and then; a stall is not a counterexample.
hypothesis_settings.register_profile("budget", deadline=None)
hypothesis_settings.load_profile("budget")

_FOR_TESTS = ("BUDGET_TEST_", "BUDGET_REQUIRE_")


def pytest_configure() -> None:
    """Forget the developer's own settings, before anything reads them."""
    for name in list(os.environ):
        ours = name.startswith("BUDGET_") or name.endswith(("_BUDGET_LIMIT", "_ALLOCATION"))
        if ours and not name.startswith(_FOR_TESTS):
            del os.environ[name]
    # What a test starts must not ask the web for prices: whether it answers, and with what, is not ours to test.
    os.environ["BUDGET_UPDATE_PRICES_ON_START"] = "false"
