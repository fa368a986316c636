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
