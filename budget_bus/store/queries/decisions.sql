-- name: decisions
-- Newest first; the id that a release took is no decision. Only answers that hold a budget's id somewhere are read as
-- JSON, to see whether it is that of a budget they considered.
-- $1 actions or null, $2 and $3 [since, until) or nulls, $4 and $5 before which one, or null, $6 budget_ids or null,
-- $7 the same as patterns, $8 to $10 component, provider, model or null, $11 how many
SELECT request_id, decided_at, component, provider, model, answer FROM decision
WHERE action <> 'released' AND ($1::text[] IS NULL OR action = ANY ($1))
    AND decided_at >= coalesce($2::timestamptz, '-infinity') AND decided_at < coalesce($3::timestamptz, 'infinity')
    AND (decided_at, request_id)
        < (coalesce($4::timestamptz, 'infinity'), coalesce($5::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND ($8::text[] IS NULL OR component = ANY ($8)) AND ($9::text[] IS NULL OR provider = ANY ($9))
    AND ($10::text[] IS NULL OR model = ANY ($10))
    AND ($6::text[] IS NULL OR CASE WHEN answer LIKE ANY ($7::text[]) THEN EXISTS (
        SELECT FROM jsonb_array_elements(answer::jsonb -> 'budgets') AS b WHERE b ->> 'budget_id' = ANY ($6)
    ) ELSE false END)
ORDER BY decided_at DESC, request_id DESC LIMIT $11;

-- name: decision
-- $1 request_id
SELECT action, answer FROM decision WHERE request_id = $1;
