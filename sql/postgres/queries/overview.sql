-- What the overview of a database reads, for the command line and the dashboard:
-- problems in groups, and what began and ended in each hour. Each reads an index, and no
-- more of it than the span of time that it is asked for.

-- name: load_problems
-- As the view workflow_problems, but of the failures only those since a time: what
-- happened last comes first. If the limit is -1, it gives all.
with problem as (
    select
        'FAILED' as problem,
        workflow.workflow_type,
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
            execution.workflow_id,
            execution.error_type,
            execution.status_since,
            execution.workflow_execution_id,
            (
                -- As in the view workflow_overview.
                select
                    case
                        when step.step_name not like '$child:%' then step.step_name
                    end as step_name
                from durable_workflow.step_checkpoints as step
                where
                    step.workflow_execution_id = execution.workflow_execution_id
                    and step.status = 'FAILED'
                    and (step.due_at is null or step.kind != 'STEP')
                    and step.attempt > 0
                order by step.id desc
                limit 1
            ) as step_name
        from durable_workflow.workflow_executions as execution
        where
            execution.status not in (
                'PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING'
            )
            and execution.status_since >= coalesce(
                cast(nullif(:failed_since, '') as timestamptz), '-infinity'
            )
            and execution.status = 'FAILED'
    ) as failed
    left join durable_workflow.workflows as workflow
        on failed.workflow_id = workflow.workflow_id
    group by workflow.workflow_type, failed.step_name, failed.error_type
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
        and failed.due_at > :now
        and failed.attempt > 0
        and execution.blocked_reason is null
        and execution.trouble is null
        and execution.status in ('PENDING', 'RUNNING', 'SUSPENDED')
    group by workflow.workflow_type, failed.step_name, failed.error_type
    having count(*) >= 3
)

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
from problem
left join durable_workflow.workflow_executions as last_execution
    on problem.last_execution_id = last_execution.workflow_execution_id
order by problem.last_at desc, problem.executions desc
limit case when cast(:row_limit as bigint) >= 0 then :row_limit end;

-- name: load_fresh_failures
-- What failed since a time, in groups of the same error of a workflow.
-- Those of at least so many. What somebody has acknowledged or rerun is not counted.
-- Looks at the newest of them, at most :at_most. last_one is a time as SQLite keeps it,
-- and an id after it.
select
    workflow.workflow_type,
    fresh.error_type,
    count(*) as executions,
    to_char(
        max(fresh.status_since) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
    )
    || (
        array_agg(
            fresh.workflow_execution_id
            order by
                fresh.status_since desc,
                fresh.workflow_execution_id desc
        )
    )[1] as last_one
from (
    select
        execution.workflow_id,
        execution.error_type,
        execution.status_since,
        execution.workflow_execution_id
    from durable_workflow.workflow_executions as execution
    where
        execution.status not in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
        and execution.status_since >= coalesce(
            cast(nullif(:since, '') as timestamptz), '-infinity'
        )
        and execution.status = 'FAILED'
    order by execution.status_since desc
    limit :at_most
) as fresh
inner join durable_workflow.workflows as workflow
    on fresh.workflow_id = workflow.workflow_id
where
    not exists (
        select 1
        from durable_workflow.workflow_audit_log as entry
        where
            entry.workflow_execution_id = fresh.workflow_execution_id
            and entry.act in ('acknowledge', 'rerun')
            and entry.created_at >= fresh.status_since
    )
group by workflow.workflow_type, fresh.error_type
having count(*) >= :least
order by executions desc;

-- name: count_by_hour
-- How many executions began and ended in each of some hours (a JSON array of the
-- beginnings of times, as 2030-01-01T00). Counts their entries in two indexes.
with recursive pairs (status, workflow_id) as (
    (
        select
            foremost.status,
            foremost.workflow_id
        from durable_workflow.workflow_executions as foremost
        order by foremost.status asc, foremost.workflow_id asc
        limit 1
    )
    union all
    select
        following.status,
        following.workflow_id
    from pairs
    cross join lateral (
        select
            next_one.status,
            next_one.workflow_id
        from durable_workflow.workflow_executions as next_one
        where
            (next_one.status, next_one.workflow_id)
            > (pairs.status, pairs.workflow_id)
        order by next_one.status asc, next_one.workflow_id asc
        limit 1
    ) as following
)

select
    hour.beginning as hour,
    begun.total as began,
    ended.completed,
    ended.failed,
    ended.cancelled
from
    json_array_elements_text(cast(:hours as json))
    with ordinality as hour (beginning, place)
cross join
    lateral (
        select count(*) as total
        from pairs
        inner join durable_workflow.workflow_executions as execution
            on
                pairs.status = execution.status
                and pairs.workflow_id = execution.workflow_id
        where
            execution.created_at >= cast(hour.beginning || ':00Z' as timestamptz)
            and execution.created_at
            < cast(hour.beginning || ':00Z' as timestamptz) + interval '1 hour'
    ) as begun
cross join
    lateral (
        select
            count(*) filter (where execution.status = 'COMPLETED') as completed,
            count(*) filter (where execution.status = 'FAILED') as failed,
            count(*) filter (where execution.status = 'CANCELLED') as cancelled
        from durable_workflow.workflow_executions as execution
        where
            execution.status not in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
            and execution.status_since >= cast(hour.beginning || ':00Z' as timestamptz)
            and execution.status_since
            < cast(hour.beginning || ':00Z' as timestamptz) + interval '1 hour'
    ) as ended
order by hour.place;

-- name: count_failed_since$
-- How many executions failed since a time. Reads what ended since then in an index.
select count(*) as total
from durable_workflow.workflow_executions
where
    status not in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and status_since >= :since
    and status = 'FAILED';

-- name: count_overdue_timers$
-- How many deadlines before a time no worker has noticed, counted no further than to a
-- limit. Those of what is paused wait for a person.
select count(*) as total
from (
    select workflow_timer_id
    from durable_workflow.workflow_due_timers
    where fire_at < :before and not is_paused
    limit :at_most
) as counted;

-- name: load_schedule_states
-- The schedules as people see them, by name.
select
    schedule_name,
    state,
    workflow_type,
    version,
    cron,
    tz,
    every_seconds,
    overlap,
    missed,
    next_fire_at,
    last_fired_at,
    last_execution_id,
    last_status,
    unfinished_executions,
    last_skipped_at,
    buffered_at,
    ends_at,
    paused_at,
    paused_by,
    paused_reason,
    trouble
from durable_workflow.workflow_schedule_overview
order by schedule_name;

-- name: load_named_queues
-- The named queues, with their limits and what is in them, by name.
select
    queue,
    is_declared,
    concurrency,
    per_worker,
    per_key,
    rate,
    rate_seconds,
    rate_used,
    key_rate,
    key_rate_seconds,
    running,
    running_keys,
    due,
    due_since,
    due_age_seconds,
    later,
    running_longest,
    running_since,
    paused_at,
    paused_by,
    paused_reason,
    updated_at
from durable_workflow.workflow_named_queues
order by queue;

-- name: load_step_limits
-- The limits for steps, with what runs under them, by name.
select
    name,
    is_declared,
    concurrency,
    per_key,
    rate,
    rate_seconds,
    rate_used,
    running,
    running_keys,
    held_longest,
    held_step,
    held_since,
    updated_at
from durable_workflow.workflow_step_limits
order by name;

-- name: load_held_slots
-- Who holds the slots of one queue, or of one limit for steps; the longest first.
select
    kind,
    name,
    limit_key,
    workflow_execution_id,
    workflow_type,
    branch,
    step_index,
    step_name,
    worker,
    held_since
from durable_workflow.workflow_held_slots
where
    kind = :kind
    and name = :name
order by held_since
limit :row_limit;

-- name: load_due_by_queue
-- What waits for a worker, by named queue and workflow; what is in no queue, too. It
-- hops from one queue to the next, and there from one priority to the next. So what
-- waits for a later time costs nothing. An index finds `queue = ...`, or `queue is
-- null`, but not both at once: so what is in no queue is looked for by itself.
with recursive waiting (queue) as (
    select min(execution.queue)
    from durable_workflow.workflow_executions as execution
    where
        execution.available_at is not null
        and execution.queue is not null
    union all
    select (
        select min(execution.queue)
        from durable_workflow.workflow_executions as execution
        where
            execution.available_at is not null
            and execution.queue > waiting.queue
    )
    from waiting
    where waiting.queue is not null
),

place (queue, workflow_id, priority) as (
    select
        waiting.queue,
        workflow.workflow_id,
        (
            select min(execution.priority)
            from durable_workflow.workflow_executions as execution
            where
                execution.queue = waiting.queue
                and execution.workflow_id = workflow.workflow_id
                and execution.available_at is not null
        )
    from waiting
    cross join durable_workflow.workflows as workflow
    where waiting.queue is not null
    union all
    select
        place.queue,
        place.workflow_id,
        (
            select min(execution.priority)
            from durable_workflow.workflow_executions as execution
            where
                execution.queue = place.queue
                and execution.workflow_id = place.workflow_id
                and execution.priority > place.priority
                and execution.available_at is not null
        )
    from place
    where place.priority is not null
),

place_in_no_queue (workflow_id, priority) as (
    select
        workflow.workflow_id,
        (
            select min(execution.priority)
            from durable_workflow.workflow_executions as execution
            where
                execution.queue is null
                and execution.workflow_id = workflow.workflow_id
                and execution.available_at is not null
        )
    from durable_workflow.workflows as workflow
    union all
    select
        place_in_no_queue.workflow_id,
        (
            select min(execution.priority)
            from durable_workflow.workflow_executions as execution
            where
                execution.queue is null
                and execution.workflow_id = place_in_no_queue.workflow_id
                and execution.priority > place_in_no_queue.priority
                and execution.available_at is not null
        )
    from place_in_no_queue
    where place_in_no_queue.priority is not null
)

select
    counted.queue,
    workflow.workflow_type,
    workflow.version,
    cast(sum(counted.due) as bigint) as due,
    min(counted.due_since) as due_since
from (
    select
        place.queue,
        place.workflow_id,
        found.due,
        found.due_since
    from place
    cross join
        lateral (
            select
                count(*) as due,
                min(execution.available_at) as due_since
            from durable_workflow.workflow_executions as execution
            where
                execution.queue = place.queue
                and execution.workflow_id = place.workflow_id
                and execution.priority = place.priority
                and execution.available_at <= :now
        ) as found
    where place.priority is not null
    union all
    select
        null as queue,
        place_in_no_queue.workflow_id,
        found.due,
        found.due_since
    from place_in_no_queue
    cross join
        lateral (
            select
                count(*) as due,
                min(execution.available_at) as due_since
            from durable_workflow.workflow_executions as execution
            where
                execution.queue is null
                and execution.workflow_id = place_in_no_queue.workflow_id
                and execution.priority = place_in_no_queue.priority
                and execution.available_at <= :now
        ) as found
    where place_in_no_queue.priority is not null
) as counted
inner join durable_workflow.workflows as workflow
    on counted.workflow_id = workflow.workflow_id
where counted.due > 0
group by
    counted.queue,
    counted.workflow_id,
    workflow.workflow_type,
    workflow.version
order by counted.queue nulls first, counted.workflow_id;

-- name: load_latest_acts
-- What people did last to anything, the newest first.
select
    workflow_audit_id,
    workflow_execution_id,
    scope,
    name,
    act,
    actor,
    details,
    created_at
from durable_workflow.workflow_audit_log
order by workflow_audit_id desc
limit :row_limit;

-- name: load_acts_on
-- What people did last to what is not an execution, the newest first.
-- Of some scopes (a JSON array), and of one name, if it is given.
-- :name text null
select
    workflow_audit_id,
    scope,
    name,
    act,
    actor,
    details,
    created_at
from durable_workflow.workflow_audit_log
where
    scope = any(
        array(select json_array_elements_text(cast(:scopes as json)))
    )
    and name is not null
    and (cast(:name as text) is null or name = :name)
order by workflow_audit_id desc
limit :row_limit;
