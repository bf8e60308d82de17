"""The words that the specialist knows, as tables: intents, dimensions, and words that say nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# What things are called -> the field of usage that they are.
DIMENSIONS: Final = {
    "component": r"components?|services?|teams?|apps?|applications?|agents?|who|whom|whose|by whom|spenders?",
    "model": r"models?|llms?",
    "provider": r"providers?|vendors?|companies|company",
    "user": r"users?|persons?|people|customers?",
    "task_type": r"tasks?|task types?|task_types?",
}
# What is counted -> the field of a sum.
MEASURES: Final = {
    "total_tokens": r"tokens?",
    "requests": r"calls?|requests?|queries|prompts?|messages?|invocations?|times",
}

_REFUSED = r"(?:refus\w*|den(?:y|ied|ies|ials?)|reject\w*|block\w*|declin\w*|turned down|not allowed|disallow\w*)"
_MAKE = r"(?:run|make|do|afford|send|issue|start|fit|place|fire|handle|use|spend)"
_CALLS = r"(?:calls?|requests?|queries|prompts?|messages?|runs?|more|another|extra|times)"
_BUDGETS = r"(?:limits?|budgets?|caps?|quotas?|allowances?|allocations?)"
_SPENT = (
    r"(?:spen[dt]\w*|cost\w*|us(?:ed|es?|ing|age)|consum\w*|burn\w*|bills?|billed|expens\w*|money|tokens?|calls?"
    r"|requests?|paid|pay\w*)"
)
_MOST = r"(?:most|top|biggest|largest|highest|heaviest|least|lowest|smallest)"
_DIMENSION = "|".join(DIMENSIONS.values())


@dataclass(frozen=True, slots=True)
class Intent:
    """
    What somebody wants to know, recognised by any of *patterns* in the question without its names and periods.

    *needs* and *without* are slots (of Question) that must be there or not; *example* is shown by help.
    """

    name: str
    patterns: tuple[str, ...]
    example: str = ""
    needs: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


# The first that fits is taken, so the special ones come before the general ones.
INTENTS: Final = (
    Intent(
        "help",
        (
            r"^\W*(?:help|hi|hello|hey)\b",
            r"what (?:can|do|could) (?:you|i)\b(?!.*\b(?:spend|afford|run|call))",
            r"how (?:do|does|can) (?:you|this|i ask)\b",
        ),
    ),
    Intent("decision", (r"",), needs=("request_id",)),
    Intent(
        "afford",
        (
            rf"\b(?:can|could|may|might|would|will|is|are|does|do)\b.*\b{_MAKE}\b.*\b{_CALLS}\b",
            rf"\benough\b.*\bfor\b.*\b{_CALLS}\b",
            rf"\bhow many\b.*\b{_CALLS}\b.*\b(?:can|could|may|fit|left|afford)\b",
            r"\b(?:can|could)\b.*\bafford\b",
        ),
        "can ergon run more opus calls?",
    ),
    Intent("denials", (rf"\b{_REFUSED}\b",), "why was I refused?"),
    Intent(
        "unpriced",
        (r"\bunpriced\b", r"\b(?:without|no|missing|lacks?|unknown)\b(?: \w+){0,2} prices?\b"),
        "which models have no price?",
    ),
    Intent(
        "holds",
        (r"\bholds?\b", r"\bheld\b", r"\breserv\w+\b", r"\bset aside\b", r"\bunconfirmed\b"),
        "what is held right now?",
    ),
    Intent(
        "forecast",
        (
            r"\b(?:run|runs|running|ran) (?:out|dry|short)\b",
            r"\bforecasts?\b|\bpredict\w*|\bprojected?\b|\bprojections?\b|\boutlook\b",
            r"\bhow long\b.*\blasts?\b",
            r"\b(?:exceed|exhaust|overspend|overshoot|blow|go over|use up|used up|break)\w*\b",
            r"\bend of (?:the )?(?:day|week|month|window)\b",
            r"\bon track\b",
            r"\blasts? (?:until|till)\b",
            r"\b(?:will|going to)\b.*\bspend\b",
        ),
        "when does the monthly budget run out?",
    ),
    Intent(
        "compare",
        (
            r"\bcompar\w*",
            r"\bversus\b|\bvs\b",
            r"\b(?:more|less|higher|lower|up|down)\b.*\bthan\b",
            r"\b(?:difference|change[ds]?|trend\w*)\b",
            r"\bwent (?:up|down)\b",
        ),
        "compare this week with last week",
    ),
    Intent("alerts", (r"\balerts?\b|\balarms?\b|\bwarnings?\b|\bwarned\b",), "were there any alerts?"),
    Intent(
        "cheapest",
        (r"\bcheap\w*", r"\b(?:less|least) expensive\b", r"\blow(?:er|est) (?:price|cost)\w*\b", r"\bcosts? less\b"),
        "what is the cheapest model for codex?",
    ),
    Intent(
        "price",
        (r"\bprices?\b|\bpriced\b|\bpricing\b", r"\b(?:per|a|for a) (?:million|thousand|1m|1k|token)\b", r"\brates?\b"),
        "what is the price of opus?",
    ),
    Intent(
        "price",
        (r"\bhow (?:much|expensive|costly) (?:is|are|does|do|would)\b", r"\bwhat (?:does|do|would)\b.*\bcosts?\b"),
        needs=("models",),
        without=("spans", "components", "users"),
    ),
    Intent(
        "left",
        (
            r"\bleft\b",
            r"\bremain\w*\b",
            r"\bavailable\b",
            r"\bheadroom\b",
            r"\bbalances?\b",
            rf"\b(?:within|over|under|inside|in)\b.*\b{_BUDGETS}\b",
            r"\bstatus\b",
            rf"\bof (?:the |our |my |its |this |that )?(?:\w+ )?{_BUDGETS}\b",
            r"\bstill\b.*\bspend\b",
            rf"\bstate of\b.*\b{_BUDGETS}\b",
            r"\bhow (?:full|close|near)\b",
            r"\bhow\b.*\b(?:stands?|doing)\b",
            rf"\b{_BUDGETS}\b.*\b(?:used|spent|ok|okay|fine)\b",
        ),
        "how much is left of the daily budget?",
    ),
    Intent("limits", (rf"\b{_BUDGETS}\b",), "list the limits"),
    Intent(
        "top",
        (
            rf"\b(?:who|whom|whose)\b.*\b{_SPENT}\b",
            rf"\b(?:which|what)\b.*\b(?:{_DIMENSION})\b.*\b{_SPENT}\b",
            rf"\b{_MOST}\b",
            rf"\b(?:by|per|for each|for every|split by|broken down by) (?:{_DIMENSION})\b",
            r"\bbreak ?down\b",
            rf"\b{_SPENT}\b.*\b(?:which|what) (?:{_DIMENSION})\b",
            rf"\beach (?:{_DIMENSION})\b",
            rf"\b(?:which|what) (?:{_DIMENSION})\b.*\b(?:active|running|there|call\w*)\b",
            rf"^(?:list|show)\b.*\b(?:{_DIMENSION})\b",
        ),
        "who spent most today?",
    ),
    Intent(
        "price",
        (r"\bcosts?\b|\bhow much\b",),
        needs=("models", "tokens"),
        without=("spans", "components", "users", "calls"),
    ),
    Intent(
        "spend",
        (rf"\b{_SPENT}\b", r"\bhow (?:much|many)\b", r"\btotals?\b"),
        "how much did rhetor spend on opus this week?",
    ),
)
FOLLOWS: Final = re.compile(r"^\W*(?:and|but|ok|okay|what about|how about|also|same|or|then)\b")

EXAMPLES: Final = tuple(intent.example for intent in INTENTS if intent.example)
