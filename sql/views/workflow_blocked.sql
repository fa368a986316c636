-- workflow_blocked: the executions that no worker claims until they are unblocked.
--
-- workflow_execution_id  text          the execution
-- workflow_type          text null     the name of its workflow
-- version                integer null  the version of its workflow
-- status                 text          as in workflow_executions
-- blocked_reason         text          why
-- recovery_count         integer       as in workflow_executions
-- created_at             text          when it was started
-- updated_at             text          when its row was last written

drop view if exists workflow_blocked;

create view workflow_blocked as
select
    execution.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    execution.blocked_reason,
    execution.recovery_count,
    execution.created_at,
    execution.updated_at
from workflow_executions as execution
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.blocked_reason is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED');
