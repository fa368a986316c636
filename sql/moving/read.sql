-- What `durable-workflow move` takes out of a database: whole tables, in the order of
-- their keys, without the first rows, which have been moved already. Claims and slots of
-- limits are not moved: nobody works on what is being moved.

-- name: read_workflows
select
    workflow_id,
    workflow_type,
    version,
    created_at
from workflows
order by workflow_id
limit -1 offset :skipped;

-- name: read_workflow_executions
select
    rowid as row_number,
    workflow_execution_id,
    workflow_id,
    status,
    current_step,
    input_data,
    output_data,
    error_message,
    ttl_expires_at,
    guarantee,
    created_at,
    updated_at,
    error_type,
    recovery_count,
    blocked_reason,
    priority,
    available_at,
    trouble,
    last_event,
    started_at,
    status_since,
    trouble_since,
    parent_execution_id,
    root_execution_id,
    on_parent_end,
    run_number,
    paused_at,
    paused_by,
    paused_reason,
    schedule_name,
    queue,
    queue_key,
    dedup_id,
    debounced,
    paused_with,
    forked_from,
    forked_before,
    replay_origin
from workflow_executions
order by rowid
limit -1 offset :skipped;

-- name: read_step_checkpoints
select
    id,
    workflow_execution_id,
    branch,
    step_index,
    attempt,
    step_name,
    kind,
    status,
    input_data,
    output_data,
    error_type,
    error_message,
    idempotency_key,
    compensate_ref,
    started_at,
    completed_at,
    due_at,
    event,
    acknowledged_at,
    worker_number
from step_checkpoints
order by id
limit -1 offset :skipped;

-- name: read_workflow_timers
select
    workflow_timer_id,
    workflow_execution_id,
    step_name,
    fire_at,
    status,
    created_at
from workflow_timers
order by workflow_timer_id
limit -1 offset :skipped;

-- name: read_workflow_signals
select
    workflow_signal_id,
    workflow_execution_id,
    signal_name,
    payload,
    status,
    created_at,
    refused_reason,
    signal_key
from workflow_signals
order by workflow_signal_id
limit -1 offset :skipped;

-- name: read_workflow_patches
select
    workflow_execution_id,
    branch,
    patch_name,
    event,
    passed_at
from workflow_patches
order by workflow_execution_id, branch, patch_name
limit -1 offset :skipped;

-- name: read_workflow_stream_items
select
    workflow_stream_item_id,
    workflow_execution_id,
    branch,
    step_index,
    step_name,
    attempt,
    run_number,
    written_under,
    item,
    created_at
from workflow_stream_items
order by workflow_stream_item_id
limit -1 offset :skipped;

-- name: read_workflow_progress_reports
select
    workflow_progress_report_id,
    workflow_execution_id,
    branch,
    step_index,
    step_name,
    attempt,
    done,
    total,
    note,
    reported_at
from workflow_progress_reports
order by workflow_progress_report_id
limit -1 offset :skipped;

-- name: read_workflow_tags
select
    workflow_execution_id,
    name,
    value
from workflow_tags
order by workflow_execution_id, name
limit -1 offset :skipped;

-- name: read_workflow_audit_log
select
    workflow_audit_id,
    workflow_execution_id,
    act,
    actor,
    details,
    created_at,
    scope,
    name
from workflow_audit_log
order by workflow_audit_id
limit -1 offset :skipped;

-- name: read_workflow_limits
select
    kind,
    name,
    concurrency,
    per_worker,
    per_key,
    declared,
    created_at,
    updated_at,
    rate,
    rate_seconds,
    key_rate,
    key_rate_seconds
from workflow_limits
order by kind, name
limit -1 offset :skipped;

-- name: read_workflow_limit_uses
select
    workflow_limit_use_id,
    kind,
    name,
    limit_key,
    used_at
from workflow_limit_uses
order by workflow_limit_use_id
limit -1 offset :skipped;

-- name: read_workflow_pauses
select
    scope,
    name,
    paused_at,
    paused_by,
    paused_reason
from workflow_pauses
order by scope, name
limit -1 offset :skipped;

-- name: read_workflow_spreading
select workflow_execution_id
from workflow_spreading
order by workflow_execution_id
limit -1 offset :skipped;

-- name: read_workflow_schedules
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
    updated_at,
    queue,
    queue_key
from workflow_schedules
order by schedule_name
limit -1 offset :skipped;

-- name: read_workflow_workers
select
    worker_number,
    worker_id,
    host,
    process_id,
    program,
    started_at,
    max_concurrent,
    seen_dead_at
from workflow_workers
order by worker_number
limit -1 offset :skipped;

-- name: read_workflow_worker_workflows
select
    worker_number,
    workflow_type,
    version
from workflow_worker_workflows
order by worker_number, workflow_type, version
limit -1 offset :skipped;

-- name: read_workflow_worker_queues
select
    worker_number,
    queue
from workflow_worker_queues
order by worker_number, queue
limit -1 offset :skipped;
