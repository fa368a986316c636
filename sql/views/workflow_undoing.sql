-- workflow_undoing: the compensations that have failed, and are tried again.
--
-- workflow_execution_id  text          the execution, which is COMPENSATING
-- workflow_type          text null     the name of its workflow
-- version                integer null  the version of its workflow
-- undoing_since          text          since when it is COMPENSATING
-- branch                 text          where the step is
-- step_index             integer       where the step is
-- step_name              text          the step that is being undone
-- attempts               integer null  how often its compensation was tried
-- error_type             text null     the class of the error of the last try
-- error_message          text null     what that error said
-- next_try_at            text null     when it is tried again
-- checkpoint_id          integer       the id of the compensation in step_checkpoints

drop view if exists workflow_undoing;

create view workflow_undoing as
select
    compensation.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status_since as undoing_since,
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
    case
        when json_valid(compensation.input_data)
            then json_extract(compensation.input_data, '$.attempt')
    end as attempts,
    compensation.error_type,
    compensation.error_message,
    compensation.due_at as next_try_at,
    compensation.id as checkpoint_id
from workflow_executions as execution
inner join step_checkpoints as compensation
    on execution.workflow_execution_id = compensation.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.status = 'COMPENSATING'
    and compensation.attempt = 0
    and compensation.status = 'INTENT'
    and compensation.error_type is not null;
