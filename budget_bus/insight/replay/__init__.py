"""The past again, with something changed: the same pure rules as production, over balances in memory."""

from budget_bus.insight.replay.outcome import Outcome
from budget_bus.insight.replay.proposal import Caching, Proposal, Swap, TierChange
from budget_bus.insight.replay.replaying import MAX_ROWS, replay

__all__ = ["MAX_ROWS", "Caching", "Outcome", "Proposal", "Swap", "TierChange", "replay"]
