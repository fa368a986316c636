-- A limit says how many executions of a named queue, or how many steps, run at once, or
-- begin within a time. Code declares it, and people may change it.

-- name: load_limit^
-- The limits of one queue, or those of a limit for steps.
select
    kind,
    name,
    concurrency,
    per_worker,
    per_key,
    rate,
    rate_seconds,
    key_rate,
    key_rate_seconds,
    declared
from durable_workflow.workflow_limits
where
    kind = :kind
    and name = :name;

-- name: load_limits
-- All limits, by kind and name.
select
    kind,
    name,
    concurrency,
    per_worker,
    per_key,
    rate,
    rate_seconds,
    key_rate,
    key_rate_seconds,
    declared
from durable_workflow.workflow_limits
order by kind, name;

-- name: upsert_limit!
-- Saves a limit; what code has declared stays unless it is given.
insert into durable_workflow.workflow_limits (
    kind,
    name,
    concurrency,
    per_worker,
    per_key,
    rate,
    rate_seconds,
    key_rate,
    key_rate_seconds,
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
    :rate,
    :rate_seconds,
    :key_rate,
    :key_rate_seconds,
    :declared,
    :now,
    :now
)
on conflict (kind, name) do update set
    concurrency = excluded.concurrency,
    per_worker = excluded.per_worker,
    per_key = excluded.per_key,
    rate = excluded.rate,
    rate_seconds = excluded.rate_seconds,
    key_rate = excluded.key_rate,
    key_rate_seconds = excluded.key_rate_seconds,
    declared = coalesce(excluded.declared, workflow_limits.declared),
    updated_at = excluded.updated_at;
