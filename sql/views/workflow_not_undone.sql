-- workflow_not_undone: what steps did that should be undone and is not: their
-- compensations failed for good.
--
-- workflow_execution_id  text          the execution
-- workflow_type          text null     the name of its workflow
-- version                integer null  the version of its workflow
-- status                 text          of the execution
-- branch                 text          where the step is
-- step_index             integer       where the step is
-- step_name              text          the step that is not undone
-- error_type             text null     the class of the error of its compensation
-- error_message          text null     what that error said
-- failed_at              text null     when the compensation failed for good
-- age_seconds            real null     since then
-- checkpoint_id          integer       the id of the compensation in step_checkpoints

drop view if exists workflow_not_undone;

create view workflow_not_undone as
select
    compensation.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    compensation.branch,
    compensation.step_index,
    iif(
        compensation.step_name glob '*:compensate',
        substr(
            compensation.step_name,
            1,
            length(compensation.step_name) - length(':compensate')
        ),
        compensation.step_name
    ) as step_name,
    compensation.error_type,
    compensation.error_message,
    compensation.completed_at as failed_at,
    round((julianday('now') - julianday(compensation.completed_at)) * 86400, 1)
        as age_seconds,
    compensation.id as checkpoint_id
from step_checkpoints as compensation
inner join workflow_executions as execution
    on compensation.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    compensation.attempt < 1
    and compensation.status = 'FAILED';
