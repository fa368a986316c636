-- workflow_named_queues: the named queues, with their limits and what is in them; also
-- those that an execution is in and nobody has declared, which have no limits. A limit
-- that is null is none.
--
-- queue             text          the name of the queue
-- is_declared       integer       1, or 0 if no row of workflow_limits has its limits
-- concurrency       integer null  how many of its executions run at once
-- per_worker        integer null  how many of them in one worker
-- per_key           integer null  how many of them with one key
-- rate              integer null  how many begin within rate_seconds
-- rate_seconds      real null     the time of the rate
-- rate_used         integer null  how many have begun within that time
-- key_rate          integer null  how many with one key begin within key_rate_seconds
-- key_rate_seconds  real null     the time of that rate
-- running           integer       how many run now: they hold a slot
-- running_keys      integer       how many keys these have
-- due               integer       how many wait for a slot, or for a worker, or for the
--                                 end of a pause
-- due_since         text null     since when the first of them has been due
-- due_age_seconds   real null     how long ago that was: the age of the queue
-- later             integer       how many are to be claimed at a later time
-- running_longest   text null     the execution that has held its slot for the longest
--                                 time
-- running_since     text null     when it was claimed
-- paused_at         text null     since when the queue is paused; null if it is not
-- paused_by         text null     who paused it
-- paused_reason     text null     why; null if that person did not say
-- updated_at        text null     when its limits were last changed

drop view if exists workflow_named_queues;

create view workflow_named_queues as
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

named (queue) as (
    select declared.name
    from workflow_limits as declared
    where declared.kind = 'QUEUE'
    union
    select waiting.queue
    from waiting
    where waiting.queue is not null
    union
    select claim.queue
    from workflow_claims as claim
    where claim.queue is not null
),

counted as (
    select
        named.queue,
        (
            select count(*)
            from workflow_claims as claim
            where claim.queue = named.queue
        ) as running,
        (
            select count(distinct claim.queue_key)
            from workflow_claims as claim
            where claim.queue = named.queue
        ) as running_keys,
        (
            select count(*)
            from workflow_executions as execution
            where
                execution.queue = named.queue
                and execution.available_at <= strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
        ) as due,
        (
            select min(execution.available_at)
            from workflow_executions as execution
            where
                execution.queue = named.queue
                and execution.available_at <= strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
        ) as due_since,
        (
            select count(*)
            from workflow_executions as execution
            where
                execution.queue = named.queue
                and execution.available_at > strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
        ) as later,
        (
            select min(claim.fencing_token)
            from workflow_claims as claim
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
                from workflow_limit_uses as used
                where
                    used.kind = 'QUEUE'
                    and used.name = counted.queue
                    and used.used_at > strftime(
                        '%Y-%m-%dT%H:%M:%f000Z',
                        'now',
                        '-' || declared.rate_seconds || ' seconds'
                    )
            )
    end as rate_used,
    declared.key_rate,
    declared.key_rate_seconds,
    counted.running,
    counted.running_keys,
    counted.due,
    counted.due_since,
    round((julianday('now') - julianday(counted.due_since)) * 86400, 1)
        as due_age_seconds,
    counted.later,
    longest.workflow_execution_id as running_longest,
    longest.claimed_at as running_since,
    pause.paused_at,
    pause.paused_by,
    pause.paused_reason,
    declared.updated_at
from counted
left join workflow_limits as declared
    on declared.kind = 'QUEUE' and counted.queue = declared.name
left join workflow_claims as longest
    on counted.first_token = longest.fencing_token
left join workflow_pauses as pause
    on pause.scope = 'QUEUE' and counted.queue = pause.name;
