-- The log of decisions is read newest first; what a release took the id of was never decided.
CREATE INDEX decision_log ON decision (decided_at, request_id) WHERE action <> 'released';
