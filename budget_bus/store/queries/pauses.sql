-- name: unended
-- What nobody has ended, oldest first; some of it may have ended by itself.
SELECT pause_id, scope, reason, actor, since, until FROM pause WHERE ended_at IS NULL ORDER BY since, pause_id;

-- name: sweep
-- What has ended by itself is told apart from what holds.  $1 now
UPDATE pause SET ended_at = until WHERE ended_at IS NULL AND until <= $1;

-- name: same
-- $1 scope
SELECT * FROM pause WHERE md5(scope::text) = md5($1::jsonb::text) AND ended_at IS NULL;

-- name: insert
-- $1 pause_id, $2 scope, $3 reason, $4 actor, $5 since, $6 until
INSERT INTO pause (pause_id, scope, reason, actor, since, until) VALUES ($1, $2, $3, $4, $5, $6) RETURNING *;

-- name: change
-- $1 pause_id, $2 reason, $3 actor, $4 until
UPDATE pause SET reason = $2, actor = $3, until = $4 WHERE pause_id = $1 RETURNING *;

-- name: one
-- $1 pause_id
SELECT * FROM pause WHERE pause_id = $1;

-- name: end
-- $1 pause_id, $2 when, $3 who, $4 why or null
UPDATE pause SET ended_at = $2, ended_by = $3, end_reason = $4 WHERE pause_id = $1 RETURNING *;

-- name: page
-- Newest first.  $1 whether they hold at $2, or null for all, $3 and $4 before which one, or null, $5 how many
SELECT * FROM pause
WHERE ($1::boolean IS NULL OR (ended_at IS NULL AND (until IS NULL OR until > $2)) = $1)
    AND ($3::timestamptz IS NULL OR (since, pause_id) < ($3, $4::uuid))
ORDER BY since DESC, pause_id DESC LIMIT $5;
