-- What `durable-workflow move` puts into a database: what a file of the name read.sql
-- gives, in the same order of columns.

-- name: write_workflows*!
insert into workflows (
    workflow_id,
    workflow_type,
    version,
    created_at
)
values (?, ?, ?, ?);

-- name: write_workflow_executions*!
insert into workflow_executions (
    rowid,
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
values (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: write_step_checkpoints*!
insert into step_checkpoints (
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
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: write_workflow_timers*!
insert into workflow_timers (
    workflow_timer_id,
    workflow_execution_id,
    step_name,
    fire_at,
    status,
    created_at
)
values (?, ?, ?, ?, ?, ?);

-- name: write_workflow_signals*!
insert into workflow_signals (
    workflow_signal_id,
    workflow_execution_id,
    signal_name,
    payload,
    status,
    created_at,
    refused_reason,
    signal_key
)
values (?, ?, ?, ?, ?, ?, ?, ?);

-- name: write_workflow_patches*!
insert into workflow_patches (
    workflow_execution_id,
    branch,
    patch_name,
    event,
    passed_at
)
values (?, ?, ?, ?, ?);

-- name: write_workflow_stream_items*!
insert into workflow_stream_items (
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
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: write_workflow_progress_reports*!
insert into workflow_progress_reports (
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
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: write_workflow_tags*!
insert into workflow_tags (
    workflow_execution_id,
    name,
    value
)
values (?, ?, ?);

-- name: write_workflow_audit_log*!
insert into workflow_audit_log (
    workflow_audit_id,
    workflow_execution_id,
    act,
    actor,
    details,
    created_at,
    scope,
    name
)
values (?, ?, ?, ?, ?, ?, ?, ?);

-- name: write_workflow_limits*!
insert into workflow_limits (
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
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: write_workflow_limit_uses*!
insert into workflow_limit_uses (
    workflow_limit_use_id,
    kind,
    name,
    limit_key,
    used_at
)
values (?, ?, ?, ?, ?);

-- name: write_workflow_pauses*!
insert into workflow_pauses (
    scope,
    name,
    paused_at,
    paused_by,
    paused_reason
)
values (?, ?, ?, ?, ?);

-- name: write_workflow_spreading*!
insert into workflow_spreading (workflow_execution_id)
values (?);

-- name: write_workflow_schedules*!
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
values (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: write_workflow_workers*!
insert into workflow_workers (
    worker_number,
    worker_id,
    host,
    process_id,
    program,
    started_at,
    max_concurrent,
    seen_dead_at
)
values (?, ?, ?, ?, ?, ?, ?, ?);

-- name: write_workflow_worker_workflows*!
insert into workflow_worker_workflows (
    worker_number,
    workflow_type,
    version
)
values (?, ?, ?);

-- name: write_workflow_worker_queues*!
insert into workflow_worker_queues (
    worker_number,
    queue
)
values (?, ?);
