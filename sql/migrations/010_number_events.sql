-- What reached a workflow function reaches it again on a replay, in the order in which
-- it came: each outcome has its number. Until now only the times told the order, and
-- not always.
--
-- event      of the outcomes that reached the workflow function, the how many-th of its
--            execution this is, from 1; null while there is none, for an attempt that
--            is to be tried again, for a compensation, and for what the workflow itself
--            cancelled
-- last_event the last event that the workflow function heard of before its execution
--            ended by a failure, a cancel or its time to live; null while it has not
--            ended so, and where an older version wrote it
-- started_at when a worker first took the execution on; null while none has, and where
--            an older version did

alter table workflow_executions add column last_event integer;

alter table workflow_executions add column started_at text;

-- The table is rebuilt, for the checks. SQLite puts a list of three values or more into
-- a table of its own, each time that it looks into it: every write of a step paid for
-- that, a third of what it costs now. One comparison after the other costs next to
-- nothing.

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

-- The outcomes of before are numbered in the order in which they came. Times have three
-- formats: with milliseconds, with microseconds, and without a Z; so each is read to the
-- second, and then six digits.

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

-- load_next_signals: the first pending signal of a name, however many are pending. What
-- SQLite keeps equal entries in is the order of arrival.

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

-- Steps that have begun and not ended, as before; and those that were cut off: the
-- workflow cancelled them while they ran, by a timeout perhaps, so nobody knows whether
-- they took effect. They do not run again, and they stay here when their execution is
-- over, until they are undone. step_status tells them apart: INTENT, and FAILED.

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
