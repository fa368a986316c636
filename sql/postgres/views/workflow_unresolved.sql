-- workflow_unresolved: the steps and compensations that are in doubt, and wait until a
-- person says what became of them.
-- sql/views/workflow_unresolved.sql says what each column means.

create or replace view durable_workflow.workflow_unresolved as
select
    step.workflow_execution_id,
    workflow.workflow_type,
    step.branch,
    step.step_index,
    step.attempt,
    step.step_name,
    step.error_message as question,
    step.completed_at as asked_at,
    step.started_at,
    cast(
        round(
            extract(epoch from statement_timestamp() - step.completed_at), 1
        ) as double precision
    ) as age_seconds,
    step.id as checkpoint_id
from durable_workflow.step_checkpoints as step
inner join durable_workflow.workflow_executions as execution
    on step.workflow_execution_id = execution.workflow_execution_id
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    step.error_type = 'durable_workflow_sqlite.errors:StepAmbiguousError'
    and step.status = 'INTENT'
    and step.due_at is null
    and execution.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING');
