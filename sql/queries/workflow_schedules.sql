-- A schedule says when workers start executions of a workflow, and with what. A worker
-- fires it in the transaction that also writes its next time, if the row is still as the
-- worker has read it.

-- name: upsert_schedule!
-- Saves a schedule. The caller has compared the row in the same transaction.
insert into workflow_schedules (
    schedule_name,
    workflow_type,
    version,
    input_data,
    cron,
    tz,
    every_seconds,
    overlap,
    missed,
    within_seconds,
    jitter_seconds,
    ends_at,
    priority,
    ttl_seconds,
    tags,
    queue,
    queue_key,
    next_fire_at,
    last_fired_at,
    last_execution_id,
    last_skipped_at,
    buffered_at,
    paused_at,
    paused_by,
    paused_reason,
    ended_at,
    trouble,
    declared,
    created_at,
    updated_at
)
values (
    :schedule_name,
    :workflow_type,
    :version,
    :input_data,
    :cron,
    :tz,
    :every_seconds,
    :overlap,
    :missed,
    :within_seconds,
    :jitter_seconds,
    :ends_at,
    :priority,
    :ttl_seconds,
    :tags,
    :queue,
    :queue_key,
    :next_fire_at,
    :last_fired_at,
    :last_execution_id,
    :last_skipped_at,
    :buffered_at,
    :paused_at,
    :paused_by,
    :paused_reason,
    :ended_at,
    :trouble,
    :declared,
    :created_at,
    :updated_at
)
on conflict (schedule_name) do update set
    workflow_type = excluded.workflow_type,
    version = excluded.version,
    input_data = excluded.input_data,
    cron = excluded.cron,
    tz = excluded.tz,
    every_seconds = excluded.every_seconds,
    overlap = excluded.overlap,
    missed = excluded.missed,
    within_seconds = excluded.within_seconds,
    jitter_seconds = excluded.jitter_seconds,
    ends_at = excluded.ends_at,
    priority = excluded.priority,
    ttl_seconds = excluded.ttl_seconds,
    tags = excluded.tags,
    queue = excluded.queue,
    queue_key = excluded.queue_key,
    next_fire_at = excluded.next_fire_at,
    last_fired_at = excluded.last_fired_at,
    last_execution_id = excluded.last_execution_id,
    last_skipped_at = excluded.last_skipped_at,
    buffered_at = excluded.buffered_at,
    paused_at = excluded.paused_at,
    paused_by = excluded.paused_by,
    paused_reason = excluded.paused_reason,
    ended_at = excluded.ended_at,
    trouble = excluded.trouble,
    declared = excluded.declared,
    updated_at = excluded.updated_at;

-- name: delete_schedule!
-- Deletes a schedule. Its executions keep its name.
delete from workflow_schedules
where schedule_name = :schedule_name;

-- name: load_schedule^
-- One schedule by its name.
select
    schedule_name,
    workflow_type,
    version,
    input_data,
    cron,
    tz,
    every_seconds,
    overlap,
    missed,
    within_seconds,
    jitter_seconds,
    ends_at,
    priority,
    ttl_seconds,
    tags,
    queue,
    queue_key,
    next_fire_at,
    last_fired_at,
    last_execution_id,
    last_skipped_at,
    buffered_at,
    paused_at,
    paused_by,
    paused_reason,
    ended_at,
    trouble,
    declared,
    created_at,
    updated_at
from workflow_schedules
where schedule_name = :schedule_name;

-- name: load_schedules
-- Every schedule, by name.
-- @scan workflow_schedules: people ask for all, which a program declares one by one
select
    schedule_name,
    workflow_type,
    version,
    input_data,
    cron,
    tz,
    every_seconds,
    overlap,
    missed,
    within_seconds,
    jitter_seconds,
    ends_at,
    priority,
    ttl_seconds,
    tags,
    queue,
    queue_key,
    next_fire_at,
    last_fired_at,
    last_execution_id,
    last_skipped_at,
    buffered_at,
    paused_at,
    paused_by,
    paused_reason,
    ended_at,
    trouble,
    declared,
    created_at,
    updated_at
from workflow_schedules
order by schedule_name;

-- name: load_due_schedules
-- The schedules with a time that has come, and those whose next time is to be computed.
-- :now text
select
    schedule_name,
    workflow_type,
    version,
    input_data,
    cron,
    tz,
    every_seconds,
    overlap,
    missed,
    within_seconds,
    jitter_seconds,
    ends_at,
    priority,
    ttl_seconds,
    tags,
    queue,
    queue_key,
    next_fire_at,
    last_fired_at,
    last_execution_id,
    last_skipped_at,
    buffered_at,
    paused_at,
    paused_by,
    paused_reason,
    ended_at,
    trouble,
    declared,
    created_at,
    updated_at
from workflow_schedules
where
    paused_at is null
    and ended_at is null
    and trouble is null
    and coalesce(next_fire_at, '') <= :now;

-- name: load_buffered_schedules
-- The schedules with a time to fire when the execution before it is finished.
-- @scan workflow_schedules: its partial index has no others
select schedule_name
from workflow_schedules
where
    buffered_at is not null
    and paused_at is null
    and trouble is null;

-- name: load_next_fire_at$
-- When the next of the schedules fires that are not due.
-- :now text
select next_fire_at
from workflow_schedules
where
    paused_at is null
    and ended_at is null
    and trouble is null
    and coalesce(next_fire_at, '') > :now
order by coalesce(next_fire_at, '')
limit 1;

-- name: update_values_of_schedule!
-- Changes the values of a schedule, if they are still those that were read.
-- :former_input_data text null
-- :former_declared text null
-- :former_trouble text null
update workflow_schedules
set
    input_data = :input_data,
    declared = :declared,
    trouble = :trouble
where
    schedule_name = :schedule_name
    and input_data is :former_input_data
    and declared is :former_declared
    and trouble is :former_trouble;

-- name: load_values_of_schedules
-- The values of all schedules, by name.
-- @scan workflow_schedules: there are few
select
    schedule_name,
    input_data,
    declared,
    trouble
from workflow_schedules
order by schedule_name;
