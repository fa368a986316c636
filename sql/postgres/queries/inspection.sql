-- What people ask of a file: the command line and the dashboard read with these, and
-- change nothing. They must be quick in a file of a million executions. So each reads
-- as many rows as it gives, or an index alone; one that reads more says so. The views
-- that they read are in sql/views.

-- name: load_signals
-- Every signal of one execution, delivered or not, in order of arrival.
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
where workflow_execution_id = :workflow_execution_id
order by workflow_signal_id;

-- name: load_blocked
-- Blocked executions, and why they are, the oldest first: all of them, if the limit is
-- -1, which PostgreSQL itself would refuse.
select
    execution.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    execution.blocked_reason,
    execution.created_at,
    execution.updated_at
from durable_workflow.workflow_executions as execution
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.blocked_reason is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
order by execution.created_at, execution.workflow_execution_id
limit case when cast(:row_limit as bigint) >= 0 then :row_limit end;

-- name: load_executions_among
-- Some executions (a JSON array of ids), in the order of their ids.
select
    workflow_execution_id,
    workflow_id,
    status,
    current_step,
    input_data,
    output_data,
    error_type,
    error_message,
    ttl_expires_at,
    guarantee,
    priority,
    queue,
    queue_key,
    dedup_id,
    debounced,
    recovery_count,
    blocked_reason,
    trouble,
    available_at,
    last_event,
    started_at,
    parent_execution_id,
    root_execution_id,
    on_parent_end,
    run_number,
    created_at,
    updated_at,
    paused_at,
    paused_by,
    paused_reason,
    paused_with
from durable_workflow.workflow_executions
where
    workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    )
order by workflow_execution_id;

-- name: load_checkpoints_among
-- Every attempt of every step of some executions (a JSON array of ids): execution by
-- execution, in step order.
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
    event
from durable_workflow.step_checkpoints
where
    workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    )
order by workflow_execution_id, branch, step_index, attempt;

-- name: load_patches_among
-- The patches that some executions (a JSON array of ids) have passed.
select
    workflow_execution_id,
    branch,
    patch_name,
    event,
    passed_at
from durable_workflow.workflow_patches
where
    workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    )
order by workflow_execution_id, branch, patch_name;
