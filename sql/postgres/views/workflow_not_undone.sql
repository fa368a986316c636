-- workflow_not_undone: what steps did that should be undone and is not: their
-- compensations failed for good.
-- sql/views/workflow_not_undone.sql says what each column means.

create or replace view durable_workflow.workflow_not_undone as
select
    compensation.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    compensation.branch,
    compensation.step_index,
    regexp_replace(compensation.step_name, ':compensate$', '') as step_name,
    compensation.error_type,
    compensation.error_message,
    compensation.completed_at as failed_at,
    cast(
        round(
            extract(epoch from statement_timestamp() - compensation.completed_at), 1
        ) as double precision
    ) as age_seconds,
    compensation.id as checkpoint_id
from durable_workflow.step_checkpoints as compensation
inner join durable_workflow.workflow_executions as execution
    on compensation.workflow_execution_id = execution.workflow_execution_id
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    compensation.attempt < 1
    and compensation.status = 'FAILED';
