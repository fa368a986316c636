-- workflow_undoing: the compensations that have failed, and are tried again.
-- sql/views/workflow_undoing.sql says what each column means. A number of
-- attempts that is not one is null.

create or replace view durable_workflow.workflow_undoing as
select
    compensation.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status_since as undoing_since,
    compensation.branch,
    compensation.step_index,
    regexp_replace(compensation.step_name, ':compensate$', '') as step_name,
    cast(
        substring(
            cast(compensation.input_data as json) ->> 'attempt' from '^\d{1,18}$'
        ) as bigint
    ) as attempts,
    compensation.error_type,
    compensation.error_message,
    compensation.due_at as next_try_at,
    compensation.id as checkpoint_id
from durable_workflow.workflow_executions as execution
inner join durable_workflow.step_checkpoints as compensation
    on execution.workflow_execution_id = compensation.workflow_execution_id
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.status = 'COMPENSATING'
    and compensation.attempt = 0
    and compensation.status = 'INTENT'
    and compensation.error_type is not null;
