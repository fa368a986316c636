-- workflow_due_timers: the deadlines that are to come, or to be noticed.
--
-- workflow_execution_id  text       whose deadline it is
-- workflow_type          text null  the name of its workflow
-- status                 text       of the execution
-- step_name              text       the sleep, or the signal that is waited for
-- fire_at                text       the deadline
-- due_in_seconds         real null  until then; negative for one that should have been
--                                   noticed
-- workflow_timer_id      text       the id in workflow_timers
-- is_paused              integer    1 if the execution is paused, or one above it, its
--                                   workflow, its queue, or everything: the deadline is
--                                   noticed once that is resumed; else 0

drop view if exists workflow_due_timers;

create view workflow_due_timers as
select
    timer.workflow_execution_id,
    workflow.workflow_type,
    execution.status,
    timer.step_name,
    timer.fire_at,
    round((julianday(timer.fire_at) - julianday('now')) * 86400, 1) as due_in_seconds,
    timer.workflow_timer_id,
    execution.paused_at is not null
    or execution.paused_with is not null
    or exists (
        select 1
        from workflow_pauses as pause
        where
            (pause.scope = 'WORKFLOW' and pause.name = workflow.workflow_type)
            or (pause.scope = 'QUEUE' and pause.name = execution.queue)
            or pause.scope = 'ALL'
    ) as is_paused
from workflow_timers as timer
inner join workflow_executions as execution
    on timer.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where timer.status = 'PENDING';
