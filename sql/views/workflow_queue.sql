-- workflow_queue: the workflows that have unfinished executions. The numbers in due,
-- running, waiting, paused, in_trouble and blocked add up to unfinished.
--
-- workflow_type     text       the name of the workflow
-- version           integer    the version of its code
-- unfinished        integer    how many of its executions are not over
-- unfinished_since  text       when the oldest of them was started
-- due               integer    how many any worker that runs this workflow may claim
--                              now; also those that wait for a slot of a named queue
-- due_since         text null  since when the first of them has been due
-- due_age_seconds   real null  how long ago that was: the age of the queue
-- running           integer    how many a worker has claimed, and are not SUSPENDED
-- waiting           integer    how many wait for a time or a signal; also those
--                              FOREGROUND_ONLY ones that wait for an engine to start up
-- in_trouble        integer    how many their worker left as they are
-- blocked           integer    how many are blocked
-- paused            integer    how many are paused, and no worker has; while their
--                              workflow or everything is paused, all that would be due
--                              or wait; of a paused queue, those that would be due, now
--                              or later

drop view if exists workflow_queue;

create view workflow_queue as
with recursive queues (workflow_id, priority) as (
    select
        workflow.workflow_id,
        (
            select max(execution.priority)
            from workflow_executions as execution
            where
                execution.workflow_id = workflow.workflow_id
                and execution.available_at is not null
                and execution.queue is null
        ) as priority
    from workflows as workflow
    union all
    select
        queues.workflow_id,
        (
            select max(execution.priority)
            from workflow_executions as execution
            where
                execution.workflow_id = queues.workflow_id
                and execution.available_at is not null
                and execution.queue is null
                and execution.priority < queues.priority
        ) as priority
    from queues
    where queues.priority is not null
),

left_alone as (
    select
        execution.rowid as row_number,
        execution.workflow_id,
        execution.blocked_reason is not null as is_blocked
    from workflow_executions as execution
    where
        execution.blocked_reason is not null
        and +execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
    union
    select
        execution.rowid as row_number,
        execution.workflow_id,
        execution.blocked_reason is not null as is_blocked
    from workflow_executions as execution
    where
        execution.trouble is not null
        and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
),

-- A workflow that is paused, or all of them if everything is.
held as (
    select workflow.workflow_id
    from workflows as workflow
    where
        exists (
            select 1
            from workflow_pauses as pause
            where
                (pause.scope = 'WORKFLOW' and pause.name = workflow.workflow_type)
                or pause.scope = 'ALL'
        )
),

held_queues as (
    select pause.name as queue
    from workflow_pauses as pause
    where pause.scope = 'QUEUE'
),

paused as (
    select
        one.workflow_id,
        count(*) as total
    from (
        select
            execution.workflow_id,
            execution.rowid as row_number
        from workflow_executions as execution
        where
            execution.paused_at is not null
            and +execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
            and not exists (
                select 1
                from workflow_claims as claim
                where claim.workflow_execution_id = execution.workflow_execution_id
            )
        union
        select
            execution.workflow_id,
            execution.rowid as row_number
        from workflow_executions as execution
        where
            execution.paused_with is not null
            and +execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
            and not exists (
                select 1
                from workflow_claims as claim
                where claim.workflow_execution_id = execution.workflow_execution_id
            )
        union
        select
            execution.workflow_id,
            execution.rowid as row_number
        from held_queues
        cross join workflow_executions as execution
            on held_queues.queue = execution.queue
        where execution.available_at is not null
    ) as one
    where one.row_number not in (select left_alone.row_number from left_alone)
    group by one.workflow_id
),

due as (
    select
        of_priority.workflow_id,
        sum(of_priority.total) as total,
        min(of_priority.since) as since
    from (
        select
            queues.workflow_id,
            (
                select count(*)
                from workflow_executions as execution
                where
                    execution.workflow_id = queues.workflow_id
                    and execution.priority = queues.priority
                    and execution.queue is null
                    and execution.available_at
                    <= strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
                    and execution.rowid not in (
                        select left_alone.row_number from left_alone
                    )
            ) as total,
            (
                select execution.available_at
                from workflow_executions as execution
                where
                    execution.workflow_id = queues.workflow_id
                    and execution.priority = queues.priority
                    and execution.queue is null
                    and execution.available_at
                    <= strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
                    and execution.rowid not in (
                        select left_alone.row_number from left_alone
                    )
                order by execution.available_at asc
                limit 1
            ) as since
        from queues
        where
            queues.priority is not null
            and queues.workflow_id not in (select held.workflow_id from held)
        union all
        select
            execution.workflow_id,
            count(*) as total,
            min(execution.available_at) as since
        from workflow_executions as execution
        where
            execution.queue is not null
            and execution.available_at is not null
            and execution.available_at <= strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
            and execution.rowid not in (select left_alone.row_number from left_alone)
            and execution.workflow_id not in (select held.workflow_id from held)
            and execution.queue not in (select held_queues.queue from held_queues)
        group by execution.workflow_id
    ) as of_priority
    group by of_priority.workflow_id
),

running as (
    select
        execution.workflow_id,
        count(*) as total
    from workflow_claims as claim
    cross join workflow_executions as execution
        on claim.workflow_execution_id = execution.workflow_execution_id
    where execution.status in ('RUNNING', 'COMPENSATING')
    group by execution.workflow_id
),

counted as (
    select
        workflow.workflow_type,
        workflow.version,
        (
            select count(*)
            from workflow_executions as execution
            where
                execution.workflow_id = workflow.workflow_id
                and execution.status in (
                    'PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING'
                )
        ) as unfinished,
        (
            select min(oldest.created_at)
            from (
                select 'PENDING' as status
                union all
                select 'RUNNING' as status
                union all
                select 'SUSPENDED' as status
                union all
                select 'COMPENSATING' as status
            ) as known
            cross join workflow_executions as oldest
                on
                    oldest.rowid = (
                        select execution.rowid
                        from workflow_executions as execution
                        where
                            execution.status = known.status
                            and execution.workflow_id = workflow.workflow_id
                        order by execution.created_at asc
                        limit 1
                    )
        ) as unfinished_since,
        coalesce(due.total, 0) as due,
        due.since as due_since,
        coalesce(running.total, 0) as running,
        (
            select count(*)
            from left_alone
            where
                left_alone.workflow_id = workflow.workflow_id
                and left_alone.is_blocked = 0
        ) as in_trouble,
        (
            select count(*)
            from left_alone
            where
                left_alone.workflow_id = workflow.workflow_id
                and left_alone.is_blocked = 1
        ) as blocked,
        coalesce(paused.total, 0) as paused,
        workflow.workflow_id in (select held.workflow_id from held) as is_held
    from workflows as workflow
    left join paused
        on workflow.workflow_id = paused.workflow_id
    left join running
        on workflow.workflow_id = running.workflow_id
    left join due
        on workflow.workflow_id = due.workflow_id
)

select
    workflow_type,
    version,
    unfinished,
    unfinished_since,
    due,
    due_since,
    round((julianday('now') - julianday(due_since)) * 86400, 1) as due_age_seconds,
    running,
    iif(
        is_held,
        0,
        unfinished - due - running - paused - in_trouble - blocked
    ) as waiting,
    in_trouble,
    blocked,
    iif(
        is_held,
        unfinished - running - in_trouble - blocked,
        paused
    ) as paused
from counted
where unfinished_since is not null;
