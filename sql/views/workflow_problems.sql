-- workflow_problems: what failed, what is in trouble, and what waits for its next
-- attempt, in groups: a row for each error of a workflow at a step, and for each line of
-- code with a mistake. It reads all FAILED executions.
--
-- problem            text       FAILED; IN TROUBLE; or BACK-OFF, where three or more
--                               wait for the next attempt
-- workflow_type      text null  the name of the workflow
-- step_name          text null  the step that failed; null where no step did, where a
--                               child did, and for what is in trouble
-- error_type         text null  the class of the error
-- place              text null  of a mistake in the code: the line, its file and its
--                               function; or the class of its error, if no line is
--                               known
-- executions         integer    how many executions have it
-- first_at           text       when the first of them failed, or got into trouble
-- last_at            text       when the last one did
-- last_execution_id  text       which one that is
-- last_message       text null  what its error, or its trouble, says

drop view if exists workflow_problems;

create view workflow_problems as
select
    problem.problem,
    problem.workflow_type,
    problem.step_name,
    problem.error_type,
    problem.place,
    problem.executions,
    problem.first_at,
    substr(problem.last_one, 1, 27) as last_at,
    substr(problem.last_one, 28) as last_execution_id,
    case problem.problem
        when 'FAILED' then last_execution.error_message
        when 'BACK-OFF'
            then (
                select step.error_message
                from step_checkpoints as step
                where
                    step.workflow_execution_id
                    = last_execution.workflow_execution_id
                    and step.status = 'FAILED'
                    and step.kind = 'STEP'
                    and step.step_name = problem.step_name
                order by step.id desc
                limit 1
            )
        else last_execution.trouble
    end as last_message
from (
    select
        'FAILED' as problem,
        failed.workflow_type,
        iif(failed.current_step glob '$child:*', null, failed.current_step)
            as step_name,
        failed.error_type,
        null as place,
        count(*) as executions,
        min(failed.status_since) as first_at,
        max(failed.status_since || failed.workflow_execution_id) as last_one
    from workflow_overview as failed
    where failed.status = 'FAILED'
    group by
        failed.workflow_type,
        iif(failed.current_step glob '$child:*', null, failed.current_step),
        failed.error_type
    union all
    select
        'IN TROUBLE' as problem,
        left_alone.workflow_type,
        null as step_name,
        substr(left_alone.trouble, 1, instr(left_alone.trouble || ':', ':') - 1)
            as error_type,
        left_alone.place,
        count(*) as executions,
        min(coalesce(left_alone.trouble_since, left_alone.updated_at)) as first_at,
        max(
            coalesce(left_alone.trouble_since, left_alone.updated_at)
            || left_alone.workflow_execution_id
        ) as last_one
    from workflow_in_trouble as left_alone
    group by
        left_alone.workflow_type,
        substr(left_alone.trouble, 1, instr(left_alone.trouble || ':', ':') - 1),
        left_alone.place
    union all
    select
        'BACK-OFF' as problem,
        workflow.workflow_type,
        failed.step_name,
        failed.error_type,
        null as place,
        count(*) as executions,
        min(coalesce(failed.completed_at, failed.due_at)) as first_at,
        max(
            coalesce(failed.completed_at, failed.due_at)
            || failed.workflow_execution_id
        ) as last_one
    from step_checkpoints as failed
    inner join workflow_executions as execution
        on failed.workflow_execution_id = execution.workflow_execution_id
    left join workflows as workflow
        on execution.workflow_id = workflow.workflow_id
    where
        failed.status = 'FAILED'
        and failed.kind = 'STEP'
        and failed.due_at > strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
        and failed.attempt > 0
        and execution.blocked_reason is null
        and execution.trouble is null
        and +execution.status in ('PENDING', 'RUNNING', 'SUSPENDED')
    group by workflow.workflow_type, failed.step_name, failed.error_type
    having count(*) >= 3
) as problem
left join workflow_executions as last_execution
    on substr(problem.last_one, 28) = last_execution.workflow_execution_id;
