-- name: changes
-- Newest first.  $1 kinds or null, $2 and $3 before which one, or null, $4 how many
SELECT change_id, kind, before, after, actor, at FROM change
WHERE ($1::text[] IS NULL OR kind = ANY ($1)) AND ($2::timestamptz IS NULL OR (at, change_id) < ($2, $3::uuid))
ORDER BY at DESC, change_id DESC LIMIT $4;
