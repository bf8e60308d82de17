-- Who asked, and for what; null where a release took the id, and in decisions of earlier releases.
ALTER TABLE decision ADD COLUMN component text, ADD COLUMN provider text, ADD COLUMN model text;

-- The log of decisions is read newest first; what a release took the id of was never decided.
CREATE INDEX decision_log ON decision (decided_at, request_id) WHERE action <> 'released';
