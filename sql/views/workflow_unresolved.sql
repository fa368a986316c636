-- workflow_unresolved: the steps and compensations that are in doubt, and wait until a
-- person says what became of them: `durable-workflow resolve`, the dashboard, or a row of
-- workflow_signals.
--
-- workflow_execution_id  text       whose step it is
-- workflow_type          text null  the name of its workflow
-- branch                 text       '' on the main line
-- step_index             integer    the number of the step in its branch
-- attempt                integer    the attempt in doubt; 0 for the compensation
-- step_name              text       as the workflow names it; NAME:compensate for the
--                                   compensation
-- question               text null  what is asked
-- asked_at               text null  since when
-- started_at             text null  when the attempt began
-- age_seconds            real null  since a person is asked
-- checkpoint_id          integer    the id in step_checkpoints

drop view if exists workflow_unresolved;

create view workflow_unresolved as
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
    round((julianday('now') - julianday(step.completed_at)) * 86400, 1) as age_seconds,
    step.id as checkpoint_id
from step_checkpoints as step
cross join workflow_executions as execution
    on step.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    step.error_type = 'durable_workflow_sqlite.errors:StepAmbiguousError'
    and step.status = 'INTENT'
    and step.due_at is null
    and +execution.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING');
