-- Who does the work: which workers there are, what each serves, and which of them began
-- each attempt; and how long the queue of each workflow is.

-- A worker is one store of one process. Its row is written with its first claim, or
-- when its engine begins to look for work; who only reads or signals has none. Whether
-- a worker lives, no row says: that is known from its lock file.
--
-- worker_number  is never given to another worker, also after the row is deleted
-- worker_id      as in workflow_claims
-- max_concurrent how many executions it runs at once; null while that is not known
-- seen_dead_at   when retention first found the worker dead; the row is deleted when
--                that is long enough ago

create table workflow_workers (
    worker_number  integer primary key autoincrement,
    worker_id      text    not null unique,
    host           text    not null,
    process_id     integer not null,
    program        text    not null,
    started_at     text    not null default (
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    )
    constraint started_at_is_a_time check (
        started_at glob '????-??-??T??:??:??.??????Z'
    ),
    max_concurrent integer
    constraint max_concurrent_is_1_or_more check (max_concurrent >= 1),
    seen_dead_at   text
    constraint seen_dead_at_is_a_time check (
        seen_dead_at glob '????-??-??T??:??:??.??????Z'
    )
) strict;

-- load_unmarked_workers, load_forgettable_workers.

create index idx_wf_worker_seen_dead on workflow_workers (seen_dead_at);

-- The workflows that a worker runs: by type and version, as it looks for them, and not
-- by their ids, which they have only once an execution was started.

create table workflow_worker_workflows (
    worker_number integer not null references workflow_workers (worker_number),
    workflow_type text    not null,
    version       integer not null,
    primary key (worker_number, workflow_type, version)
) strict, without rowid;

-- Who began the attempt. It refers to no row, since that of the worker may be deleted.

alter table step_checkpoints add column worker_number integer;

-- All views are made anew below, so that one migration has them all: where somebody
-- dropped or edited one, `durable-workflow migrate` makes it again from here.

-- What executions are at: each attempt that has begun and not ended, each wait, and
-- each failed attempt that is to be retried. An attempt that a later one of the same
-- step has followed is over, whatever its status. Attempt 0 is the compensation.

drop view if exists workflow_open_steps;

create view workflow_open_steps as
select
    step.id,
    step.workflow_execution_id,
    step.branch,
    step.step_index,
    step.attempt,
    step.step_name,
    step.kind,
    step.status,
    step.idempotency_key,
    step.started_at,
    case
        when step.kind = 'SIGNAL' then 'signal ' || step.step_name
        when step.kind = 'SLEEP' then 'time'
        when step.due_at is not null then 'retry of ' || step.step_name
    end as waiting_for,
    step.due_at as waiting_until
from step_checkpoints as step
where
    (
        step.status = 'INTENT'
        or (
            step.status = 'FAILED'
            and step.kind = 'STEP'
            and step.due_at is not null
        )
    )
    and (
        step.attempt = 0
        or not exists (
            select 1
            from step_checkpoints as later
            where
                later.workflow_execution_id = step.workflow_execution_id
                and later.branch = step.branch
                and later.step_index = step.step_index
                and later.attempt > step.attempt
        )
    );

-- Each execution in a row, as before; with how long it was in the queue until a worker
-- first took it on, and how long ago that was.

drop view if exists workflow_overview;

create view workflow_overview as
select
    execution.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    execution.current_step as steps_begun,
    (
        select count(*)
        from step_checkpoints as done
        where
            done.workflow_execution_id = execution.workflow_execution_id
            and done.status = 'COMPLETED'
    ) as steps_completed,
    step.step_name as current_step,
    step.branch as current_branch,
    step.attempt as attempts,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        when open_step.id is not null then open_step.waiting_for
        when execution.status = 'PENDING' then 'worker'
        when execution.status = 'SUSPENDED' then 'time'
    end as waiting_for,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        when execution.status = 'PENDING' then execution.available_at
        when execution.status = 'SUSPENDED'
            then (
                select min(deadline.due_at)
                from (
                    select open_step.waiting_until as due_at
                    union all
                    select timer.fire_at as due_at
                    from workflow_timers as timer
                    where
                        timer.workflow_execution_id = execution.workflow_execution_id
                        and timer.status = 'PENDING'
                ) as deadline
            )
        else open_step.waiting_until
    end as waiting_until,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        when open_step.id is not null
            then
                iif(
                    open_step.waiting_for is null,
                    null,
                    coalesce(step.completed_at, open_step.started_at)
                )
        when execution.status in ('PENDING', 'SUSPENDED') then execution.status_since
    end as waiting_since,
    step.error_type as step_error_type,
    step.error_message as step_error_message,
    (
        select count(*)
        from step_checkpoints as not_undone
        where
            not_undone.workflow_execution_id = execution.workflow_execution_id
            and not_undone.attempt < 1
            and not_undone.status = 'FAILED'
    ) as steps_not_undone,
    (
        select count(*)
        from workflow_signals as signal
        where
            signal.workflow_execution_id = execution.workflow_execution_id
            and signal.status = 'PENDING'
    ) as signals_pending,
    execution.blocked_reason,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        else execution.trouble
    end as trouble,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        when execution.trouble is not null then execution.trouble_since
    end as trouble_since,
    execution.error_type,
    execution.error_message,
    execution.recovery_count,
    claim.worker_id,
    claim.claimed_at,
    execution.available_at,
    execution.created_at,
    execution.started_at,
    execution.updated_at,
    execution.status_since,
    execution.ttl_expires_at,
    round((julianday('now') - julianday(execution.created_at)) * 86400, 1)
        as age_seconds,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED')
            then
                round(
                    (
                        julianday(execution.status_since)
                        - julianday(execution.created_at)
                    ) * 86400,
                    3
                )
    end as took_seconds,
    case
        when execution.started_at is not null
            then
                round(
                    (
                        julianday(execution.started_at)
                        - julianday(execution.created_at)
                    ) * 86400,
                    3
                )
        when execution.status = 'PENDING'
            then
                round(
                    (julianday('now') - julianday(execution.created_at)) * 86400, 3
                )
    end as queued_seconds,
    round(
        (
            julianday(
                iif(
                    execution.status in ('COMPLETED', 'FAILED', 'CANCELLED'),
                    execution.status_since,
                    'now'
                )
            )
            - julianday(execution.started_at)
        ) * 86400,
        3
    ) as running_seconds
from workflow_executions as execution
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join workflow_claims as claim
    on execution.workflow_execution_id = claim.workflow_execution_id
left join workflow_open_steps as open_step
    on open_step.id = (
        select candidate.id
        from workflow_open_steps as candidate
        where
            candidate.workflow_execution_id = execution.workflow_execution_id
            and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
        order by
            candidate.waiting_for is not null asc,
            candidate.waiting_until is null asc,
            candidate.waiting_until asc,
            candidate.id desc
        limit 1
    )
left join step_checkpoints as step
    on step.id = coalesce(
        open_step.id,
        (
            select failed.id
            from step_checkpoints as failed
            where
                failed.workflow_execution_id = execution.workflow_execution_id
                and execution.status = 'FAILED'
                and failed.status = 'FAILED'
                and (failed.due_at is null or failed.kind != 'STEP')
                and failed.attempt > 0
            order by failed.id desc
            limit 1
        )
    );

-- Every attempt of every step, as before; with the worker that began it.

drop view if exists workflow_timeline;

create view workflow_timeline as
select
    step.workflow_execution_id,
    workflow.workflow_type,
    step.branch,
    step.step_index,
    step.attempt,
    step.step_name,
    step.kind,
    step.status,
    step.event,
    step.started_at,
    step.completed_at,
    step.due_at,
    round((julianday(step.completed_at) - julianday(step.started_at)) * 86400, 3)
        as took_seconds,
    step.error_type,
    step.error_message,
    step.id as checkpoint_id,
    step.worker_number,
    coalesce(
        worker.host || ':' || worker.process_id, 'worker ' || step.worker_number
    ) as worker
from step_checkpoints as step
inner join workflow_executions as execution
    on step.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join workflow_workers as worker
    on step.worker_number = worker.worker_number;

-- The unfinished executions of each workflow: how many may be taken on now and since
-- when, how many run, and how many wait. `due`, `running`, `waiting`, `in_trouble` and
-- `blocked` add up to `unfinished`.

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
                    and execution.available_at
                    <= strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
                    and execution.rowid not in (
                        select left_alone.row_number from left_alone
                    )
                order by execution.available_at asc
                limit 1
            ) as since
        from queues
        where queues.priority is not null
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
        ) as blocked
    from workflows as workflow
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
    unfinished - due - running - in_trouble - blocked as waiting,
    in_trouble,
    blocked
from counted
where unfinished_since is not null;

-- What a step did that should be undone, and is not, as before.

drop view if exists workflow_not_undone;

create view workflow_not_undone as
select
    compensation.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
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
    compensation.error_type,
    compensation.error_message,
    compensation.completed_at as failed_at,
    round((julianday('now') - julianday(compensation.completed_at)) * 86400, 1)
        as age_seconds,
    compensation.id as checkpoint_id
from step_checkpoints as compensation
inner join workflow_executions as execution
    on compensation.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    compensation.attempt < 1
    and compensation.status = 'FAILED';

-- What is being undone, and has failed to be so far, as before.

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

-- Steps that have begun and not ended, and those that were cut off, as before.

drop view if exists workflow_in_doubt;

create view workflow_in_doubt as
with in_doubt as (
    select
        step.id,
        step.workflow_execution_id,
        'INTENT' as step_status
    from workflow_executions as execution
    inner join workflow_open_steps as step
        on execution.workflow_execution_id = step.workflow_execution_id
    where
        execution.status in ('RUNNING', 'COMPENSATING')
        and step.kind = 'STEP'
        and step.waiting_for is null
    union all
    select
        step.id,
        step.workflow_execution_id,
        'FAILED' as step_status
    from step_checkpoints as step
    where
        step.status = 'FAILED'
        and step.error_type = 'asyncio.exceptions:CancelledError'
        and step.event is null
        and step.kind = 'STEP'
        and step.attempt > 0
        and step.due_at is null
        and step.started_at is not null
        and step.acknowledged_at is null
        and not exists (
            select 1
            from step_checkpoints as later
            where
                later.workflow_execution_id = step.workflow_execution_id
                and later.branch = step.branch
                and later.step_index = step.step_index
                and later.attempt > step.attempt
        )
        and not exists (
            select 1
            from step_checkpoints as undone
            where
                undone.workflow_execution_id = step.workflow_execution_id
                and undone.branch = step.branch
                and undone.step_index = step.step_index
                and undone.attempt = 0
                and undone.status = 'COMPENSATED'
        )
)

select
    in_doubt.workflow_execution_id,
    workflow.workflow_type,
    execution.status,
    step.branch,
    step.step_index,
    step.attempt,
    step.step_name,
    in_doubt.step_status,
    step.idempotency_key,
    step.started_at,
    claim.worker_id,
    claim.claimed_at,
    round((julianday('now') - julianday(step.started_at)) * 86400, 1) as age_seconds,
    in_doubt.id as checkpoint_id
from in_doubt
inner join step_checkpoints as step
    on in_doubt.id = step.id
inner join workflow_executions as execution
    on in_doubt.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join workflow_claims as claim
    on execution.workflow_execution_id = claim.workflow_execution_id;

-- What workers left as it is, as before.

drop view if exists workflow_in_trouble;

create view workflow_in_trouble as
select
    execution.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    execution.trouble,
    execution.trouble_since,
    execution.created_at,
    execution.updated_at
from workflow_executions as execution
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.trouble is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED');

-- Executions that workers leave alone until an operator does something, as before.

drop view if exists workflow_blocked;

create view workflow_blocked as
select
    execution.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    execution.blocked_reason,
    execution.recovery_count,
    execution.created_at,
    execution.updated_at
from workflow_executions as execution
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.blocked_reason is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED');

-- Deadlines of sleeps and waits that are still to come, or to be noticed, as before.

drop view if exists workflow_due_timers;

create view workflow_due_timers as
select
    timer.workflow_execution_id,
    workflow.workflow_type,
    execution.status,
    timer.step_name,
    timer.fire_at,
    round((julianday(timer.fire_at) - julianday('now')) * 86400, 1) as due_in_seconds,
    timer.workflow_timer_id
from workflow_timers as timer
inner join workflow_executions as execution
    on timer.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where timer.status = 'PENDING';

-- How many executions of each workflow began and ended in each hour, as before.

drop view if exists workflow_throughput;

create view workflow_throughput as
select
    event.hour,
    workflow.workflow_type,
    sum(event.what = 'BEGAN') as began,
    sum(event.what = 'COMPLETED') as completed,
    sum(event.what = 'FAILED') as failed,
    sum(event.what = 'CANCELLED') as cancelled
from (
    select
        workflow_id,
        'BEGAN' as what,
        substr(created_at, 1, 13) || ':00Z' as hour
    from workflow_executions
    union all
    select
        workflow_id,
        status as what,
        substr(updated_at, 1, 13) || ':00Z' as hour
    from workflow_executions
    where status in ('COMPLETED', 'FAILED', 'CANCELLED')
) as event
left join workflows as workflow
    on event.workflow_id = workflow.workflow_id
group by event.hour, workflow.workflow_type;
