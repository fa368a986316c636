-- workflow_queue: the workflows that have unfinished executions. The numbers in due,
-- running, waiting, paused, in_trouble and blocked add up to unfinished.
-- sql/views/workflow_queue.sql says what each column means.

create or replace view durable_workflow.workflow_queue as
with recursive queues (workflow_id, priority) as (
    select
        workflow.workflow_id,
        (
            select max(execution.priority)
            from durable_workflow.workflow_executions as execution
            where
                execution.workflow_id = workflow.workflow_id
                and execution.available_at is not null
                and execution.queue is null
        ) as priority
    from durable_workflow.workflows as workflow
    union all
    select
        queues.workflow_id,
        (
            select max(execution.priority)
            from durable_workflow.workflow_executions as execution
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
        execution.row_number,
        execution.workflow_id,
        execution.blocked_reason is not null as is_blocked
    from durable_workflow.workflow_executions as execution
    where
        execution.blocked_reason is not null
        and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
    union
    select
        execution.row_number,
        execution.workflow_id,
        execution.blocked_reason is not null as is_blocked
    from durable_workflow.workflow_executions as execution
    where
        execution.trouble is not null
        and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
),

-- A workflow that is paused, or all of them if everything is.
held as (
    select workflow.workflow_id
    from durable_workflow.workflows as workflow
    where
        exists (
            select 1
            from durable_workflow.workflow_pauses as pause
            where
                (pause.scope = 'WORKFLOW' and pause.name = workflow.workflow_type)
                or pause.scope = 'ALL'
        )
),

held_queues as (
    select pause.name as queue
    from durable_workflow.workflow_pauses as pause
    where pause.scope = 'QUEUE'
),

paused as (
    select
        one.workflow_id,
        count(*) as total
    from (
        select
            execution.workflow_id,
            execution.row_number
        from durable_workflow.workflow_executions as execution
        where
            execution.paused_at is not null
            and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
            and not exists (
                select 1
                from durable_workflow.workflow_claims as claim
                where claim.workflow_execution_id = execution.workflow_execution_id
            )
        union
        select
            execution.workflow_id,
            execution.row_number
        from durable_workflow.workflow_executions as execution
        where
            execution.paused_with is not null
            and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
            and not exists (
                select 1
                from durable_workflow.workflow_claims as claim
                where claim.workflow_execution_id = execution.workflow_execution_id
            )
        union
        select
            execution.workflow_id,
            execution.row_number
        from held_queues
        inner join durable_workflow.workflow_executions as execution
            on held_queues.queue = execution.queue
        where execution.available_at is not null
    ) as one
    where one.row_number not in (select left_alone.row_number from left_alone)
    group by one.workflow_id
),

due as (
    select
        of_priority.workflow_id,
        cast(sum(of_priority.total) as bigint) as total,
        min(of_priority.since) as since
    from (
        select
            queues.workflow_id,
            (
                select count(*)
                from durable_workflow.workflow_executions as execution
                where
                    execution.workflow_id = queues.workflow_id
                    and execution.priority = queues.priority
                    and execution.queue is null
                    and execution.available_at <= statement_timestamp()
                    and execution.row_number not in (
                        select left_alone.row_number from left_alone
                    )
            ) as total,
            (
                select execution.available_at
                from durable_workflow.workflow_executions as execution
                where
                    execution.workflow_id = queues.workflow_id
                    and execution.priority = queues.priority
                    and execution.queue is null
                    and execution.available_at <= statement_timestamp()
                    and execution.row_number not in (
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
        from durable_workflow.workflow_executions as execution
        where
            execution.queue is not null
            and execution.available_at is not null
            and execution.available_at <= statement_timestamp()
            and execution.row_number not in (
                select left_alone.row_number from left_alone
            )
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
    from durable_workflow.workflow_claims as claim
    inner join durable_workflow.workflow_executions as execution
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
            from durable_workflow.workflow_executions as execution
            where
                execution.workflow_id = workflow.workflow_id
                and execution.status in (
                    'PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING'
                )
        ) as unfinished,
        (
            select min(oldest.created_at)
            from (
                values ('PENDING'), ('RUNNING'), ('SUSPENDED'), ('COMPENSATING')
            ) as known (status)
            cross join lateral (
                select execution.created_at
                from durable_workflow.workflow_executions as execution
                where
                    execution.status = known.status
                    and execution.workflow_id = workflow.workflow_id
                order by execution.created_at asc
                limit 1
            ) as oldest
        ) as unfinished_since,
        coalesce(due.total, 0) as due,
        due.since as due_since,
        coalesce(running.total, 0) as running,
        (
            select count(*)
            from left_alone
            where
                left_alone.workflow_id = workflow.workflow_id
                and not left_alone.is_blocked
        ) as in_trouble,
        (
            select count(*)
            from left_alone
            where
                left_alone.workflow_id = workflow.workflow_id
                and left_alone.is_blocked
        ) as blocked,
        coalesce(paused.total, 0) as paused,
        workflow.workflow_id in (select held.workflow_id from held) as is_held
    from durable_workflow.workflows as workflow
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
    cast(
        round(extract(epoch from statement_timestamp() - due_since), 1)
        as double precision
    ) as due_age_seconds,
    running,
    case
        when is_held then 0
        else unfinished - due - running - paused - in_trouble - blocked
    end as waiting,
    in_trouble,
    blocked,
    case
        when is_held then unfinished - running - in_trouble - blocked
        else paused
    end as paused
from counted
where unfinished_since is not null;
