-- What failed and what is in trouble, in groups: the same error at the same step of the
-- same workflow, how often, since when, and until when. And what ended in a span of
-- time, and what has an error, by an index each.

-- When executions ended, and how: an execution enters this index once, at its end.
-- `not in`: with `status in (...)`, SQLite prefers the index of the statuses, and reads
-- all that ever ended.

create index idx_wf_exec_ended on workflow_executions (
    status_since,
    status,
    workflow_id
)
where status not in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING');

-- Those that have an error, in the order of their creation: the search for a text in it
-- looks at no other.

create index idx_wf_exec_error on workflow_executions (created_at)
where error_message is not null;

-- Each problem once, however many executions have it. The time and the id of the last
-- one are compared as one text, so that the id is of that time.

drop view if exists workflow_problems;

create view workflow_problems as
select
    problem.problem,
    problem.workflow_type,
    problem.step_name,
    problem.error_type,
    problem.executions,
    problem.first_at,
    substr(problem.last_one, 1, 27) as last_at,
    substr(problem.last_one, 28) as last_execution_id,
    case problem.problem
        when 'FAILED' then last_execution.error_message
        else last_execution.trouble
    end as last_message
from (
    select
        'FAILED' as problem,
        failed.workflow_type,
        failed.current_step as step_name,
        failed.error_type,
        count(*) as executions,
        min(failed.status_since) as first_at,
        max(failed.status_since || failed.workflow_execution_id) as last_one
    from workflow_overview as failed
    where failed.status = 'FAILED'
    group by failed.workflow_type, failed.current_step, failed.error_type
    union all
    select
        'IN TROUBLE' as problem,
        left_alone.workflow_type,
        null as step_name,
        substr(left_alone.trouble, 1, instr(left_alone.trouble || ':', ':') - 1)
            as error_type,
        count(*) as executions,
        min(coalesce(left_alone.trouble_since, left_alone.updated_at)) as first_at,
        max(
            coalesce(left_alone.trouble_since, left_alone.updated_at)
            || left_alone.workflow_execution_id
        ) as last_one
    from workflow_in_trouble as left_alone
    group by
        left_alone.workflow_type,
        substr(left_alone.trouble, 1, instr(left_alone.trouble || ':', ':') - 1)
) as problem
left join workflow_executions as last_execution
    on substr(problem.last_one, 28) = last_execution.workflow_execution_id;
