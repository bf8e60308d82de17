-- name: values
-- $1 keys
SELECT key, value FROM config WHERE key = ANY ($1);

-- name: unset
-- $1 key
DELETE FROM config WHERE key = $1;
