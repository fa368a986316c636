-- workflow_timeline: every attempt of every step, with the time it took.
-- sql/views/workflow_timeline.sql says what each column means.

create or replace view durable_workflow.workflow_timeline as
select
    step.workflow_execution_id,
    workflow.workflow_type,
    step.branch,
    step.step_index,
    step.attempt,
    step.step_name,
    step.kind,
    step.status,
    step.event,
    step.started_at,
    step.completed_at,
    step.due_at,
    cast(
        round(
            extract(epoch from step.completed_at - step.started_at), 3
        ) as double precision
    ) as took_seconds,
    step.error_type,
    step.error_message,
    step.id as checkpoint_id,
    step.worker_number,
    coalesce(
        worker.host || ':' || worker.process_id, 'worker ' || step.worker_number
    ) as worker
from durable_workflow.step_checkpoints as step
inner join durable_workflow.workflow_executions as execution
    on step.workflow_execution_id = execution.workflow_execution_id
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join durable_workflow.workflow_workers as worker
    on step.worker_number = worker.worker_number;
