-- A limit says how many executions of a named queue run at once. Code declares it, and
-- people may change it. The slots that are held are rows of workflow_claims that name
-- the queue.

-- name: load_limit^
-- The limits of one queue.
select
    kind,
    name,
    concurrency,
    per_worker,
    per_key,
    declared
from workflow_limits
where
    kind = :kind
    and name = :name;

-- name: load_limits
-- All limits, by kind and name.
-- @scan workflow_limits: a few
select
    kind,
    name,
    concurrency,
    per_worker,
    per_key,
    declared
from workflow_limits
order by kind, name;

-- name: upsert_limit!
-- Saves the limits of a queue; what code has declared stays unless it is given.
-- :now text
insert into workflow_limits (
    kind,
    name,
    concurrency,
    per_worker,
    per_key,
    declared,
    created_at,
    updated_at
)
values (
    :kind,
    :name,
    :concurrency,
    :per_worker,
    :per_key,
    :declared,
    :now,
    :now
)
on conflict (kind, name) do update set
    concurrency = excluded.concurrency,
    per_worker = excluded.per_worker,
    per_key = excluded.per_key,
    declared = coalesce(excluded.declared, workflow_limits.declared),
    updated_at = excluded.updated_at;
