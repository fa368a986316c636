-- What reached a workflow function reaches it again on a replay, in the order in which
-- it came: each outcome has its number. Until now the order was known from the times
-- only, and not in every case.
--
-- To run this file by hand, first: pragma foreign_keys = off;
-- pragma legacy_alter_table = on; (a table is rebuilt that views read from).
--
-- event      of the outcomes that reached the workflow function, the number in its
--            execution, from 1; null while there is none, for an attempt that is to be
--            tried again, for a compensation, and for what the workflow itself
--            cancelled. A number may be left out
-- last_event the last event that the workflow function heard of before its execution
--            ended by a failure, a cancel or its time to live; null while it has not
--            ended so, and in rows of older versions
-- started_at when a worker first took the execution on; null before that, and in rows
--            of older versions

alter table workflow_executions add column last_event integer;

alter table workflow_executions add column started_at text;

-- The table is rebuilt, for the checks. For a list of three or more values SQLite builds
-- a temporary table at each check. That was a third of what the writes of a step cost.
-- One comparison after the other costs next to nothing. Other tables are written less
-- often, and keep their lists.

create table new_step_checkpoints (
    id                    integer primary key,
    workflow_execution_id text    not null references workflow_executions (
        workflow_execution_id
    ),
    branch                text    not null default '',
    step_index            integer not null,
    attempt               integer not null default 1,
    step_name             text    not null,
    kind                  text    not null default 'STEP'
    constraint step_checkpoints_kind check (
        kind = 'STEP' or kind = 'SLEEP' or kind = 'SIGNAL'
    ),
    status                text    not null
    constraint step_checkpoints_status check (
        status = 'INTENT'
        or status = 'COMPLETED'
        or status = 'FAILED'
        or status = 'COMPENSATED'
    ),
    input_data            text,
    output_data           text,
    error_type            text,
    error_message         text,
    idempotency_key       text,
    compensate_ref        text,
    started_at            text,
    completed_at          text,
    due_at                text,
    event                 integer
);

-- The outcomes that are already recorded are numbered in the order in which they came.
-- Within an execution the times only rise, also where the clock was set back. They have
-- three formats: with milliseconds, with microseconds, and without a Z; so each is read
-- to the second, and then six digits.

with outcomes as (
    select
        step.id,
        step.workflow_execution_id,
        replace(
            substr(coalesce(step.completed_at, step.started_at), 1, 19), ' ', 'T'
        ) as second,
        substr(
            rtrim(substr(coalesce(step.completed_at, step.started_at), 21), 'Z')
            || '000000',
            1,
            6
        ) as microsecond
    from step_checkpoints as step
    where
        step.attempt > 0
        and (
            step.status = 'COMPLETED'
            or (
                step.status = 'FAILED'
                and (step.due_at is null or step.kind != 'STEP')
            )
        )
        and not exists (
            select 1
            from step_checkpoints as later
            where
                later.workflow_execution_id = step.workflow_execution_id
                and later.branch = step.branch
                and later.step_index = step.step_index
                and later.attempt > step.attempt
        )
),

numbered as (
    select
        outcomes.id,
        row_number() over (
            partition by outcomes.workflow_execution_id
            order by outcomes.second asc, outcomes.microsecond asc, outcomes.id asc
        ) as event
    from outcomes
)

insert into new_step_checkpoints (
    id,
    workflow_execution_id,
    branch,
    step_index,
    attempt,
    step_name,
    kind,
    status,
    input_data,
    output_data,
    error_type,
    error_message,
    idempotency_key,
    compensate_ref,
    started_at,
    completed_at,
    due_at,
    event
)
select
    step.id,
    step.workflow_execution_id,
    step.branch,
    step.step_index,
    step.attempt,
    step.step_name,
    step.kind,
    step.status,
    step.input_data,
    step.output_data,
    step.error_type,
    step.error_message,
    step.idempotency_key,
    step.compensate_ref,
    step.started_at,
    step.completed_at,
    step.due_at,
    numbered.event
from step_checkpoints as step
left join numbered
    on step.id = numbered.id
order by step.id;

drop table step_checkpoints;

alter table new_step_checkpoints rename to step_checkpoints;

create unique index idx_step_cp_exec on step_checkpoints (
    workflow_execution_id,
    branch,
    step_index,
    attempt
);

-- load_next_signals: the first pending signal of a name, however many are pending. Equal
-- entries are kept in the order of their ids, which is the order of arrival.

drop index idx_wf_signal_pending;

create index idx_wf_signal_pending on workflow_signals (
    workflow_execution_id,
    status,
    signal_name
);

-- A signal wakes an execution that only waits if it may be for it: one of the library's
-- own, or one whose name it waits for. Any other stays for a wait that is still to come.
-- Until now each of them woke it, for nothing.

create index idx_step_cp_awaited on step_checkpoints (
    workflow_execution_id,
    step_name
)
where kind = 'SIGNAL' and status = 'INTENT';

drop trigger trg_wf_signal_wakes;

create trigger trg_wf_signal_wakes
after insert on workflow_signals
when new.status = 'PENDING'
begin
    update workflow_executions
    set available_at = new.created_at
    where
        workflow_execution_id = new.workflow_execution_id
        and guarantee = 'BEST_EFFORT_BACKGROUND'
        and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
        and blocked_reason is null
        and (available_at is null or available_at > new.created_at)
        and (
            status != 'PENDING'
            or available_at is null
            or new.signal_name = '$cancel'
        )
        and not exists (
            select 1
            from workflow_claims
            where workflow_claims.workflow_execution_id = new.workflow_execution_id
        )
        and (
            status != 'SUSPENDED'
            or new.signal_name glob '$*'
            or exists (
                select 1
                from step_checkpoints as awaited
                where
                    awaited.workflow_execution_id = new.workflow_execution_id
                    and awaited.step_name = new.signal_name
                    and awaited.kind = 'SIGNAL'
                    and awaited.status = 'INTENT'
            )
        );
end;

-- workflow_in_doubt: the steps that were cut off.

create index idx_step_cp_cut_off on step_checkpoints (workflow_execution_id)
where
    status = 'FAILED'
    and error_type = 'asyncio.exceptions:CancelledError'
    and event is null;

-- Each attempt of each step in a row, as before, now with its event. Ask for one
-- execution, and order by started_at.

drop view workflow_timeline;

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
    step.id as checkpoint_id
from step_checkpoints as step
inner join workflow_executions as execution
    on step.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id;

-- Each execution in a row, as before. One that waits for a timer of asyncio's alone says
-- so: it waits for 'time', and until when.

drop view workflow_overview;

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
    execution.error_type,
    execution.error_message,
    execution.recovery_count,
    claim.worker_id,
    execution.created_at,
    execution.updated_at,
    execution.ttl_expires_at,
    round((julianday('now') - julianday(execution.created_at)) * 86400, 1)
        as age_seconds,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED')
            then
                round(
                    (
                        julianday(execution.updated_at)
                        - julianday(execution.created_at)
                    ) * 86400,
                    3
                )
    end as took_seconds
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

-- Steps that have begun and not ended, as before; and those that were cut off: the
-- workflow cancelled them while they ran, by a timeout perhaps, so nobody knows whether
-- they took effect. They run again only to be undone, if they have a compensation and
-- their execution is undone. They stay here when it is over, until they are undone.
-- step_status tells them apart: INTENT, and FAILED.

drop view workflow_in_doubt;

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
