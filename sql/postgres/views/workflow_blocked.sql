-- workflow_blocked: the executions that no worker claims until they are unblocked.
-- sql/views/workflow_blocked.sql says what each column means.

create or replace view durable_workflow.workflow_blocked as
select
    execution.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    execution.blocked_reason,
    execution.recovery_count,
    execution.created_at,
    execution.updated_at
from durable_workflow.workflow_executions as execution
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.blocked_reason is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED');
