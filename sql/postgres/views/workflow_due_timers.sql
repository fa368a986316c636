-- workflow_due_timers: the deadlines that are to come, or to be noticed.
-- sql/views/workflow_due_timers.sql says what each column means. is_paused is a boolean.

create or replace view durable_workflow.workflow_due_timers as
select
    timer.workflow_execution_id,
    workflow.workflow_type,
    execution.status,
    timer.step_name,
    timer.fire_at,
    cast(
        round(
            extract(epoch from timer.fire_at - statement_timestamp()), 1
        ) as double precision
    ) as due_in_seconds,
    timer.workflow_timer_id,
    execution.paused_at is not null
    or execution.paused_with is not null
    or exists (
        select 1
        from durable_workflow.workflow_pauses as pause
        where
            (pause.scope = 'WORKFLOW' and pause.name = workflow.workflow_type)
            or (pause.scope = 'QUEUE' and pause.name = execution.queue)
            or pause.scope = 'ALL'
    ) as is_paused
from durable_workflow.workflow_timers as timer
inner join durable_workflow.workflow_executions as execution
    on timer.workflow_execution_id = execution.workflow_execution_id
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where timer.status = 'PENDING';
