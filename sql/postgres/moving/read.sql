-- What `durable-workflow move` takes out of a database, as in sql/moving/read.sql.

-- name: read_workflows
select
    workflow_id,
    workflow_type,
    version,
    created_at
from durable_workflow.workflows
order by workflow_id
offset :skipped;

-- name: read_workflow_executions
select
    row_number,
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
from durable_workflow.workflow_executions
order by row_number
offset :skipped;

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
from durable_workflow.step_checkpoints
order by id
offset :skipped;

-- name: read_workflow_timers
select
    workflow_timer_id,
    workflow_execution_id,
    step_name,
    fire_at,
    status,
    created_at
from durable_workflow.workflow_timers
order by workflow_timer_id
offset :skipped;

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
from durable_workflow.workflow_signals
order by workflow_signal_id
offset :skipped;

-- name: read_workflow_patches
select
    workflow_execution_id,
    branch,
    patch_name,
    event,
    passed_at
from durable_workflow.workflow_patches
order by workflow_execution_id, branch, patch_name
offset :skipped;

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
from durable_workflow.workflow_stream_items
order by workflow_stream_item_id
offset :skipped;

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
from durable_workflow.workflow_progress_reports
order by workflow_progress_report_id
offset :skipped;

-- name: read_workflow_tags
select
    workflow_execution_id,
    name,
    value
from durable_workflow.workflow_tags
order by workflow_execution_id, name
offset :skipped;

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
from durable_workflow.workflow_audit_log
order by workflow_audit_id
offset :skipped;

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
from durable_workflow.workflow_limits
order by kind, name
offset :skipped;

-- name: read_workflow_limit_uses
select
    workflow_limit_use_id,
    kind,
    name,
    limit_key,
    used_at
from durable_workflow.workflow_limit_uses
order by workflow_limit_use_id
offset :skipped;

-- name: read_workflow_pauses
select
    scope,
    name,
    paused_at,
    paused_by,
    paused_reason
from durable_workflow.workflow_pauses
order by scope, name
offset :skipped;

-- name: read_workflow_spreading
select workflow_execution_id
from durable_workflow.workflow_spreading
order by workflow_execution_id
offset :skipped;

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
from durable_workflow.workflow_schedules
order by schedule_name
offset :skipped;

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
from durable_workflow.workflow_workers
order by worker_number
offset :skipped;

-- name: read_workflow_worker_workflows
select
    worker_number,
    workflow_type,
    version
from durable_workflow.workflow_worker_workflows
order by worker_number, workflow_type, version
offset :skipped;

-- name: read_workflow_worker_queues
select
    worker_number,
    queue
from durable_workflow.workflow_worker_queues
order by worker_number, queue
offset :skipped;
