-- What `durable-workflow move` puts into a database: what sql/moving/read.sql gives.
-- PostgreSQL reads the rows from a stream, several times as fast as with `insert`.

-- name: write_workflows!
copy durable_workflow.workflows (
    workflow_id,
    workflow_type,
    version,
    created_at
)
from stdin;

-- name: write_workflow_executions!
copy durable_workflow.workflow_executions (
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
)
from stdin;

-- name: write_step_checkpoints!
copy durable_workflow.step_checkpoints (
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
)
from stdin;

-- name: write_workflow_timers!
copy durable_workflow.workflow_timers (
    workflow_timer_id,
    workflow_execution_id,
    step_name,
    fire_at,
    status,
    created_at
)
from stdin;

-- name: write_workflow_signals!
copy durable_workflow.workflow_signals (
    workflow_signal_id,
    workflow_execution_id,
    signal_name,
    payload,
    status,
    created_at,
    refused_reason,
    signal_key
)
from stdin;

-- name: write_workflow_patches!
copy durable_workflow.workflow_patches (
    workflow_execution_id,
    branch,
    patch_name,
    event,
    passed_at
)
from stdin;

-- name: write_workflow_stream_items!
copy durable_workflow.workflow_stream_items (
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
)
from stdin;

-- name: write_workflow_progress_reports!
copy durable_workflow.workflow_progress_reports (
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
)
from stdin;

-- name: write_workflow_tags!
copy durable_workflow.workflow_tags (
    workflow_execution_id,
    name,
    value
)
from stdin;

-- name: write_workflow_audit_log!
copy durable_workflow.workflow_audit_log (
    workflow_audit_id,
    workflow_execution_id,
    act,
    actor,
    details,
    created_at,
    scope,
    name
)
from stdin;

-- name: write_workflow_limits!
copy durable_workflow.workflow_limits (
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
)
from stdin;

-- name: write_workflow_limit_uses!
copy durable_workflow.workflow_limit_uses (
    workflow_limit_use_id,
    kind,
    name,
    limit_key,
    used_at
)
from stdin;

-- name: write_workflow_pauses!
copy durable_workflow.workflow_pauses (
    scope,
    name,
    paused_at,
    paused_by,
    paused_reason
)
from stdin;

-- name: write_workflow_spreading!
copy durable_workflow.workflow_spreading (workflow_execution_id)
from stdin;

-- name: write_workflow_schedules!
copy durable_workflow.workflow_schedules (
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
)
from stdin;

-- name: write_workflow_workers!
copy durable_workflow.workflow_workers (
    worker_number,
    worker_id,
    host,
    process_id,
    program,
    started_at,
    max_concurrent,
    seen_dead_at
)
from stdin;

-- name: write_workflow_worker_workflows!
copy durable_workflow.workflow_worker_workflows (
    worker_number,
    workflow_type,
    version
)
from stdin;

-- name: write_workflow_worker_queues!
copy durable_workflow.workflow_worker_queues (
    worker_number,
    queue
)
from stdin;
