-- workflow_timeline: every attempt of every step, with the time it took.
--
-- workflow_execution_id  text          whose step it is
-- workflow_type          text null     the name of its workflow
-- branch                 text          '' on the main line
-- step_index             integer       the number of the step in its branch
-- attempt                integer       from 1; 0 for the compensation
-- step_name              text          as the workflow names it
-- kind                   text          STEP, SLEEP or SIGNAL
-- status                 text          INTENT, COMPLETED, FAILED or COMPENSATED
-- event                  integer null  the number of this outcome, as in
--                                      step_checkpoints
-- started_at             text null     when it began
-- completed_at           text null     when it ended
-- due_at                 text null     when a wait ends, and when a failed attempt is
--                                      tried again
-- took_seconds           real null     from its start to its end; null while it is not
--                                      over
-- error_type             text null     the class of the error that ended it
-- error_message          text null     what that error said
-- checkpoint_id          integer       the id in step_checkpoints
-- worker_number          integer null  the worker that began it; null if an older
--                                      version wrote it
-- worker                 text null     that worker, as HOST:PROCESS_ID; `worker NUMBER`
--                                      if its row is deleted

drop view if exists workflow_timeline;

create view workflow_timeline as
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
    round((julianday(step.completed_at) - julianday(step.started_at)) * 86400, 3)
        as took_seconds,
    step.error_type,
    step.error_message,
    step.id as checkpoint_id,
    step.worker_number,
    coalesce(
        worker.host || ':' || worker.process_id, 'worker ' || step.worker_number
    ) as worker
from step_checkpoints as step
inner join workflow_executions as execution
    on step.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join workflow_workers as worker
    on step.worker_number = worker.worker_number;
