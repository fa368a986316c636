-- workflow_named_queues: the named queues, with their limits and what is in them; also
-- those that an execution is in and nobody has declared, which have no limits. A limit
-- that is null is none.
-- sql/views/workflow_named_queues.sql says what each column means. is_declared is a
-- boolean.

create or replace view durable_workflow.workflow_named_queues as
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

named (queue) as (
    select declared.name
    from durable_workflow.workflow_limits as declared
    where declared.kind = 'QUEUE'
    union
    select waiting.queue
    from waiting
    where waiting.queue is not null
    union
    select claim.queue
    from durable_workflow.workflow_claims as claim
    where claim.queue is not null
),

counted as (
    select
        named.queue,
        (
            select count(*)
            from durable_workflow.workflow_claims as claim
            where claim.queue = named.queue
        ) as running,
        (
            select count(distinct claim.queue_key)
            from durable_workflow.workflow_claims as claim
            where claim.queue = named.queue
        ) as running_keys,
        (
            select count(*)
            from durable_workflow.workflow_executions as execution
            where
                execution.queue = named.queue
                and execution.available_at <= statement_timestamp()
        ) as due,
        (
            select min(execution.available_at)
            from durable_workflow.workflow_executions as execution
            where
                execution.queue = named.queue
                and execution.available_at <= statement_timestamp()
        ) as due_since,
        (
            select count(*)
            from durable_workflow.workflow_executions as execution
            where
                execution.queue = named.queue
                and execution.available_at > statement_timestamp()
        ) as later,
        (
            select min(claim.fencing_token)
            from durable_workflow.workflow_claims as claim
            where claim.queue = named.queue
        ) as first_token
    from named
)

select
    counted.queue,
    declared.name is not null as is_declared,
    declared.concurrency,
    declared.per_worker,
    declared.per_key,
    declared.rate,
    declared.rate_seconds,
    case
        when declared.rate is not null
            then (
                select count(*)
                from durable_workflow.workflow_limit_uses as used
                where
                    used.kind = 'QUEUE'
                    and used.name = counted.queue
                    and used.used_at > statement_timestamp()
                    - make_interval(secs => declared.rate_seconds)
            )
    end as rate_used,
    declared.key_rate,
    declared.key_rate_seconds,
    counted.running,
    counted.running_keys,
    counted.due,
    counted.due_since,
    cast(
        round(
            extract(epoch from statement_timestamp() - counted.due_since), 1
        ) as double precision
    ) as due_age_seconds,
    counted.later,
    longest.workflow_execution_id as running_longest,
    longest.claimed_at as running_since,
    pause.paused_at,
    pause.paused_by,
    pause.paused_reason,
    declared.updated_at
from counted
left join durable_workflow.workflow_limits as declared
    on declared.kind = 'QUEUE' and counted.queue = declared.name
left join durable_workflow.workflow_claims as longest
    on counted.first_token = longest.fencing_token
left join durable_workflow.workflow_pauses as pause
    on pause.scope = 'QUEUE' and counted.queue = pause.name;
