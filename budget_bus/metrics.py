"""Every metric of every role, in one list that says what to do when one moves."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry(auto_describe=True)

_BATCH_BUCKETS = (1, 5, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_SECOND_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)

# Grows: add settlers or deciders (up to the number of partitions), then look at batch seconds.
LAG = Gauge("budget_bus_consumer_lag_messages", "Records not yet applied", ["topic", "partition"], registry=REGISTRY)
# Small batches with growing lag: the fetch is the bottleneck; full ones: the database is.
BATCH_RECORDS = Histogram(
    "budget_bus_batch_records", "Records per batch", ["topic"], buckets=_BATCH_BUCKETS, registry=REGISTRY
)
BATCH_SECONDS = Histogram(
    "budget_bus_batch_seconds", "Time to apply a batch", ["topic"], buckets=_SECOND_BUCKETS, registry=REGISTRY
)
# Steadily above zero: the database or broker is unstable; the reason is in the log.
RETRIES = Counter("budget_bus_batch_retries_total", "Batches tried again", ["topic"], registry=REGISTRY)
# Above zero: records were deleted unread; decide with `budget topics accept-loss`.
HALTED_PARTITIONS = Gauge(
    "budget_bus_halted_partitions", "Partitions that wait for an operator", ["topic"], registry=REGISTRY
)
# Grows: a component publishes what cannot be used; `budget dlq list` says what.
DEAD_LETTERS = Counter(
    "budget_bus_dead_letters_total", "Records that could not be used", ["topic", "reason"], registry=REGISTRY
)
# Grows: a component uses one id for two events; the second one is in the dead letters.
CONFLICTS = Counter("budget_bus_conflicts_total", "Same id, different content", registry=REGISTRY)
# Grows: calls cost more than their checks said; state max_output_tokens, or raise the default.
OVERRUNS = Counter("budget_bus_overruns_total", "Events that used more than their hold", registry=REGISTRY)
# Grows: a component records usage under the request_id of another one's check; the settler's log names both.
FOREIGN_HOLDS = Counter(
    "budget_bus_foreign_holds_total", "Events that named another component's hold", registry=REGISTRY
)
EVENTS = Counter("budget_bus_usage_events_total", "Usage events by outcome", ["status"], registry=REGISTRY)
# A rising share of deny: a budget is used up; GET /api/limits says which.
DECISIONS = Counter("budget_bus_decisions_total", "Checks by decision", ["action"], registry=REGISTRY)
# Grows: calls marked critical pass budgets that allow it; GET /api/alerts says which budgets.
CRITICAL_PASSED = Counter("budget_bus_critical_passed_total", "Calls that passed as critical", registry=REGISTRY)
# Unconfirmed ones grow: a component dies between check and usage, or never settles; GET /api/holds says which.
EXPIRED_HOLDS = Counter("budget_bus_expired_holds_total", "Holds that ended without usage", ["as"], registry=REGISTRY)
# Above zero: the books do not add up; the log has the first difference, `budget db check --repair` mends it.
BOOK_DIFFERENCES = Gauge(
    "budget_bus_book_differences", "Differences that the last complete self-check found", registry=REGISTRY
)
# Stands still: no bookkeeper runs, or the books are too many for the interval.
BOOKS_CHECKED_AT = Gauge(
    "budget_bus_books_checked_timestamp_seconds", "When the last complete self-check ended", registry=REGISTRY
)
# Long ago while no check has ended: the first one does not come to its end; the bookkeeper's log says why.
BOOKS_CHECKING_SINCE = Gauge(
    "budget_bus_books_checking_since_timestamp_seconds", "When the bookkeeper began with checking", registry=REGISTRY
)
# Grows: something looks wrong; `budget anomalies list` says what, `budget pauses` what the breaker has done about it.
ANOMALIES = Counter("budget_bus_anomalies_total", "Anomalies found", ["kind"], registry=REGISTRY)
# Above a week: upgrade, or set BUDGET_EXCHANGE_RATE_URL; budgets in that currency count by the old rate.
EXCHANGE_RATE_AGE = Gauge(
    "budget_bus_exchange_rate_age_seconds", "Since the last rate was published", ["currency"], registry=REGISTRY
)
# Grows: the relay is down or the broker refuses.
OUTBOX_WAITING = Gauge("budget_bus_outbox_messages", "Messages to be published", registry=REGISTRY)
PUBLISHED = Counter("budget_bus_published_total", "Messages published by the relay", ["topic"], registry=REGISTRY)
# given_up or too_old grow: nobody was told by that channel; the notifier's log has alert_id and reason.
NOTIFICATIONS = Counter(
    "budget_bus_notifications_total", "Alerts by channel and end", ["channel", "outcome"], registry=REGISTRY
)
# Grows: a receiver is away or busy; the alerts behind wait in Kafka, those of other channels do not.
NOTIFICATION_RETRIES = Counter(
    "budget_bus_notification_retries_total", "Attempts that are made again", ["channel"], registry=REGISTRY
)
# Falls to zero while dashboards are open: this gateway or the way to it broke; clients connect again by themselves.
WS_CLIENTS = Gauge("budget_bus_ws_clients", "Clients that listen to a feed", ["feed"], registry=REGISTRY)
# Grows: a client reads slower than events come. Have it ask with ?component=, or read in a thread of its own.
WS_SLOW_CLOSED = Counter(
    "budget_bus_ws_slow_closed_total", "Clients closed for reading too slowly", ["feed"], registry=REGISTRY
)
# refused or unavailable grow: the specialist's key lacks a role, or no gateway answers it; its answers say which.
SPECIALIST_ANSWERS = Counter(
    "budget_bus_specialist_answers_total", "Questions by who answered", ["by"], registry=REGISTRY
)
SPECIALIST_CLIENTS = Gauge("budget_bus_specialist_clients", "Clients of the specialist", registry=REGISTRY)
