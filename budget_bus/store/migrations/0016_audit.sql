-- Every admin write is in the audit table: what was acknowledged, given back, paused, or given up, and who has keys.

ALTER TABLE change DROP CONSTRAINT IF EXISTS change_kind_check;
ALTER TABLE change ADD CONSTRAINT change_kind_check CHECK (kind IN (
    'limit', 'price', 'config', 'allocation', 'alert', 'hold', 'key', 'pause', 'schedule', 'topic'));

CREATE INDEX change_at ON change (at, change_id);
