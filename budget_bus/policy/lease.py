"""How many calls a lease may set aside at once."""

from __future__ import annotations

from collections.abc import Sequence

from budget_bus.policy.decide import Line

# A lease takes at most this part of what is left, so that several lessees near the limit get ever smaller ones, down
# to exact grants of one call.
_SHARE = 4


def grant(lines: Sequence[Line], calls: int) -> int:
    """
    How many calls of the lines' amounts to set aside for one lessee: at most *calls*, at least 1.

    1 does not say that one call fits: the decision does. Lines that are not enforced do not bound a lease.
    """
    most = calls
    for line in lines:
        if line.enforced and line.amount is None:
            return 1
        if line.enforced and line.amount:
            most = min(most, line.left // line.amount // _SHARE)
    return max(1, most)
