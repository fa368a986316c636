-- What the overview of a file reads, for the command line and the dashboard: problems
-- in groups, and what began and ended in each hour. Each reads an index, and no more of
-- it than the span of time that it is asked for.

-- name: load_problems
-- As the view workflow_problems, but of the failures only those since a time: what
-- happened last comes first.
-- @scan workflow_executions: an index that holds only those in trouble
-- @sort: a row for each failure of that time
-- :failed_since text
-- :now text
-- :row_limit integer
-- =problem text
-- =workflow_type text null
-- =step_name text null
-- =place text null
-- =executions integer
-- =first_at text
-- =last_at text
-- =last_execution_id text
-- =last_message text null
with problem as (
    select
        'FAILED' as problem,
        workflow.workflow_type,
        failed.step_name,
        failed.error_type,
        null as place,
        count(*) as executions,
        min(failed.status_since) as first_at,
        max(failed.status_since || failed.workflow_execution_id) as last_one
    from (
        select
            execution.workflow_id,
            execution.error_type,
            execution.status_since,
            execution.workflow_execution_id,
            (
                -- As in the view workflow_overview.
                select iif(step.step_name glob '$child:*', null, step.step_name)
                from step_checkpoints as step
                where
                    step.workflow_execution_id = execution.workflow_execution_id
                    and step.status = 'FAILED'
                    and (step.due_at is null or step.kind != 'STEP')
                    and step.attempt > 0
                order by step.id desc
                limit 1
            ) as step_name
        from workflow_executions as execution
        where
            execution.status != 'RUNNING'
            and execution.status != 'SUSPENDED'
            and execution.status != 'PENDING'
            and execution.status != 'COMPENSATING'
            and execution.status_since >= :failed_since
            and +execution.status = 'FAILED'
    ) as failed
    left join workflows as workflow
        on failed.workflow_id = workflow.workflow_id
    group by workflow.workflow_type, failed.step_name, failed.error_type
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
        and failed.due_at > :now
        and failed.attempt > 0
        and execution.blocked_reason is null
        and execution.trouble is null
        and +execution.status in ('PENDING', 'RUNNING', 'SUSPENDED')
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
from problem
left join workflow_executions as last_execution
    on substr(problem.last_one, 28) = last_execution.workflow_execution_id
order by last_at desc, problem.executions desc
limit :row_limit;

-- name: load_fresh_failures
-- What failed since a time, in groups of the same error of a workflow.
-- Those of at least so many. What somebody has acknowledged or rerun is not counted.
-- Looks at the newest of them, at most :at_most.
-- @sort: a row for each failure of that time, at most
-- :since text
-- :least integer
-- :at_most integer
-- =executions integer
-- =last_one text
select
    workflow.workflow_type,
    fresh.error_type,
    count(*) as executions,
    max(fresh.status_since || fresh.workflow_execution_id) as last_one
from (
    select
        execution.workflow_id,
        execution.error_type,
        execution.status_since,
        execution.workflow_execution_id
    from workflow_executions as execution
    where
        execution.status != 'RUNNING'
        and execution.status != 'SUSPENDED'
        and execution.status != 'PENDING'
        and execution.status != 'COMPENSATING'
        and execution.status_since >= :since
        and +execution.status = 'FAILED'
    order by execution.status_since desc
    limit :at_most
) as fresh
inner join workflows as workflow
    on fresh.workflow_id = workflow.workflow_id
where
    not exists (
        select 1
        from workflow_audit_log as entry
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
-- beginnings of times, as 2030-01-01T00). Counts their entries in two indexes, three
-- times in that for what ended, and sorts none of them.
-- @scan workflow_executions: the first entry of an index
-- :hours text
-- =hour text
-- =began integer
-- =completed integer
-- =failed integer
-- =cancelled integer
with recursive pairs (status, workflow_id) as (
    select
        execution.status,
        execution.workflow_id
    from workflow_executions as execution
    where
        execution.rowid = (
            select foremost.rowid
            from workflow_executions as foremost
            order by foremost.status asc, foremost.workflow_id asc
            limit 1
        )
    union all
    select
        execution.status,
        execution.workflow_id
    from pairs
    cross join workflow_executions as execution
    where
        execution.rowid = coalesce(
            (
                select next_one.rowid
                from workflow_executions as next_one
                where
                    next_one.status = pairs.status
                    and next_one.workflow_id > pairs.workflow_id
                order by next_one.workflow_id asc
                limit 1
            ),
            (
                select next_one.rowid
                from workflow_executions as next_one
                where next_one.status > pairs.status
                order by next_one.status asc, next_one.workflow_id asc
                limit 1
            )
        )
)

select
    hour.value as hour,
    (
        select count(*)
        from pairs
        cross join workflow_executions as begun
            on
                pairs.status = begun.status
                and pairs.workflow_id = begun.workflow_id
        where
            begun.created_at >= hour.value
            -- What follows an hour in a time is less than ~.
            and begun.created_at < hour.value || '~'
    ) as began,
    (
        select count(*)
        from workflow_executions as ended
        where
            ended.status != 'RUNNING'
            and ended.status != 'SUSPENDED'
            and ended.status != 'PENDING'
            and ended.status != 'COMPENSATING'
            and ended.status_since >= hour.value
            and ended.status_since < hour.value || '~'
            and +ended.status = 'COMPLETED'
    ) as completed,
    (
        select count(*)
        from workflow_executions as ended
        where
            ended.status != 'RUNNING'
            and ended.status != 'SUSPENDED'
            and ended.status != 'PENDING'
            and ended.status != 'COMPENSATING'
            and ended.status_since >= hour.value
            and ended.status_since < hour.value || '~'
            and +ended.status = 'FAILED'
    ) as failed,
    (
        select count(*)
        from workflow_executions as ended
        where
            ended.status != 'RUNNING'
            and ended.status != 'SUSPENDED'
            and ended.status != 'PENDING'
            and ended.status != 'COMPENSATING'
            and ended.status_since >= hour.value
            and ended.status_since < hour.value || '~'
            and +ended.status = 'CANCELLED'
    ) as cancelled
from json_each(:hours) as hour;

-- name: count_failed_since$
-- How many executions failed since a time. Reads what ended since then in an index.
-- :since text
-- =total integer
select count(*) as total
from workflow_executions
where
    status != 'RUNNING'
    and status != 'SUSPENDED'
    and status != 'PENDING'
    and status != 'COMPENSATING'
    and status_since >= :since
    and +status = 'FAILED';

-- name: count_overdue_timers$
-- How many deadlines before a time no worker has noticed, counted no further than to a
-- limit. Those of what is paused wait for a person.
-- :before text
-- :at_most integer
-- =total integer
select count(*) as total
from (
    select workflow_timer_id
    from workflow_due_timers
    where fire_at < :before and is_paused = 0
    limit :at_most
) as counted;

-- name: load_schedule_states
-- The schedules as people see them, by name.
-- @scan workflow_schedules: people ask for all, which a program declares one by one
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
from workflow_schedule_overview
order by schedule_name;

-- name: load_named_queues
-- The named queues, with their limits and what is in them, by name.
-- @sort: the names of queues, which are few
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
from workflow_named_queues
order by queue;

-- name: load_step_limits
-- The limits for steps, with what runs under them, by name.
-- @scan workflow_step_slots: what runs now, and what dead workers have left
-- @scan workflow_claims: what runs now
-- @sort: what runs now
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
from workflow_step_limits
order by name;

-- name: load_held_slots
-- Who holds the slots of one queue, or of one limit for steps; the longest first.
-- @sort: what runs now under this limit
-- :name text
-- :row_limit integer
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
from workflow_held_slots
where
    kind = :kind
    and name = :name
order by held_since
limit :row_limit;

-- name: load_due_by_queue
-- What waits for a worker, by named queue and workflow; what is in no queue, too. It
-- hops from one queue to the next, and there from one priority to the next. So what
-- waits for a later time costs nothing.
-- @sort: a row for each queue, workflow and priority
-- :now text
-- =queue text null
-- =workflow_type text
-- =version integer
-- =due integer
-- =due_since text
with recursive waiting (queue) as (
    select min(execution.queue)
    from workflow_executions as execution
    where
        execution.available_at is not null
        and execution.queue is not null
    union all
    select (
        select min(execution.queue)
        from workflow_executions as execution
        where
            execution.available_at is not null
            and execution.queue > waiting.queue
    )
    from waiting
    where waiting.queue is not null
),

place (queue, workflow_id, priority) as (
    select
        named.queue,
        workflow.workflow_id,
        (
            select min(execution.priority)
            from workflow_executions as execution
            where
                execution.queue is named.queue
                and execution.workflow_id = workflow.workflow_id
                and execution.available_at is not null
        )
    from (
        select null as queue
        union all
        select waiting.queue
        from waiting
        where waiting.queue is not null
    ) as named
    cross join workflows as workflow
    union all
    select
        place.queue,
        place.workflow_id,
        (
            select min(execution.priority)
            from workflow_executions as execution
            where
                execution.queue is place.queue
                and execution.workflow_id = place.workflow_id
                and execution.priority > place.priority
                and execution.available_at is not null
        )
    from place
    where place.priority is not null
)

select
    counted.queue,
    workflow.workflow_type,
    workflow.version,
    sum(counted.due) as due,
    min(counted.due_since) as due_since
from (
    select
        place.queue,
        place.workflow_id,
        (
            select count(*)
            from workflow_executions as execution
            where
                execution.queue is place.queue
                and execution.workflow_id = place.workflow_id
                and execution.priority = place.priority
                and execution.available_at <= :now
        ) as due,
        (
            select min(execution.available_at)
            from workflow_executions as execution
            where
                execution.queue is place.queue
                and execution.workflow_id = place.workflow_id
                and execution.priority = place.priority
                and execution.available_at <= :now
        ) as due_since
    from place
    where place.priority is not null
) as counted
inner join workflows as workflow on counted.workflow_id = workflow.workflow_id
where counted.due > 0
group by counted.queue, counted.workflow_id;

-- name: load_latest_acts
-- What people did last to anything, the newest first.
-- @scan workflow_audit_log: from its end, as many rows as it gives
-- :row_limit integer
select
    workflow_audit_id,
    workflow_execution_id,
    scope,
    name,
    act,
    actor,
    details,
    created_at
from workflow_audit_log
order by workflow_audit_id desc
limit :row_limit;

-- name: load_acts_on
-- What people did last to what is not an execution, the newest first.
-- Of some scopes (a JSON array), and of one name, if it is given.
-- @sort: what people did to these, which is not much
-- :scopes text
-- :name text null
-- :row_limit integer
-- =name text
select
    workflow_audit_id,
    scope,
    name,
    act,
    actor,
    details,
    created_at
from workflow_audit_log
where
    scope in (select value from json_each(:scopes))
    and name is not null
    and (:name is null or name = :name)
order by workflow_audit_id desc
limit :row_limit;
