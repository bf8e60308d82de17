-- Holds by when they were decided, for the view of who settles; they are decided nearly in time order.
CREATE INDEX hold_decided ON hold USING brin (decided_at) WITH (pages_per_range = 16, autosummarize = on);
