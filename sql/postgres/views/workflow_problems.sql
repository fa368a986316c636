-- workflow_problems: what failed, what is in trouble, and what waits for its next
-- attempt, in groups: a row for each error of a workflow at a step, and for each line of
-- code with a mistake. It reads all FAILED executions.
-- sql/views/workflow_problems.sql says what each column means. The last execution of a
-- group is the first of an array, where SQLite takes the greatest of times and ids.

create or replace view durable_workflow.workflow_problems as
select
    problem.problem,
    problem.workflow_type,
    problem.step_name,
    problem.error_type,
    problem.place,
    problem.executions,
    problem.first_at,
    problem.last_at,
    problem.last_execution_id,
    case problem.problem
        when 'FAILED' then last_execution.error_message
        when 'BACK-OFF'
            then (
                select step.error_message
                from durable_workflow.step_checkpoints as step
                where
                    step.workflow_execution_id = problem.last_execution_id
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
        failed.step_name,
        failed.error_type,
        cast(null as text) as place,
        count(*) as executions,
        min(failed.status_since) as first_at,
        max(failed.status_since) as last_at,
        (
            array_agg(
                failed.workflow_execution_id
                order by
                    failed.status_since desc,
                    failed.workflow_execution_id desc
            )
        )[1] as last_execution_id
    from (
        select
            overview.workflow_type,
            case
                when overview.current_step not like '$child:%'
                    then overview.current_step
            end as step_name,
            overview.error_type,
            overview.status_since,
            overview.workflow_execution_id
        from durable_workflow.workflow_overview as overview
        where overview.status = 'FAILED'
    ) as failed
    group by failed.workflow_type, failed.step_name, failed.error_type
    union all
    select
        'IN TROUBLE' as problem,
        left_alone.workflow_type,
        cast(null as text) as step_name,
        left_alone.error_type,
        left_alone.place,
        count(*) as executions,
        min(left_alone.since) as first_at,
        max(left_alone.since) as last_at,
        (
            array_agg(
                left_alone.workflow_execution_id
                order by
                    left_alone.since desc,
                    left_alone.workflow_execution_id desc
            )
        )[1] as last_execution_id
    from (
        select
            troubled.workflow_type,
            split_part(troubled.trouble, ':', 1) as error_type,
            troubled.place,
            coalesce(troubled.trouble_since, troubled.updated_at) as since,
            troubled.workflow_execution_id
        from durable_workflow.workflow_in_trouble as troubled
    ) as left_alone
    group by left_alone.workflow_type, left_alone.error_type, left_alone.place
    union all
    select
        'BACK-OFF' as problem,
        workflow.workflow_type,
        failed.step_name,
        failed.error_type,
        cast(null as text) as place,
        count(*) as executions,
        min(coalesce(failed.completed_at, failed.due_at)) as first_at,
        max(coalesce(failed.completed_at, failed.due_at)) as last_at,
        (
            array_agg(
                failed.workflow_execution_id
                order by
                    coalesce(failed.completed_at, failed.due_at) desc,
                    failed.workflow_execution_id desc
            )
        )[1] as last_execution_id
    from durable_workflow.step_checkpoints as failed
    inner join durable_workflow.workflow_executions as execution
        on failed.workflow_execution_id = execution.workflow_execution_id
    left join durable_workflow.workflows as workflow
        on execution.workflow_id = workflow.workflow_id
    where
        failed.status = 'FAILED'
        and failed.kind = 'STEP'
        and failed.due_at > statement_timestamp()
        and failed.attempt > 0
        and execution.blocked_reason is null
        and execution.trouble is null
        and execution.status in ('PENDING', 'RUNNING', 'SUSPENDED')
    group by workflow.workflow_type, failed.step_name, failed.error_type
    having count(*) >= 3
) as problem
left join durable_workflow.workflow_executions as last_execution
    on problem.last_execution_id = last_execution.workflow_execution_id;
