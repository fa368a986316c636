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

alter table step_checkpoints add column event integer;

alter table workflow_executions add column last_event integer;

alter table workflow_executions add column started_at text;

-- The outcomes of before, in the order in which they came. Times have three formats:
-- with milliseconds, with microseconds, and without a Z; so each is read to the second,
-- and then six digits.

update step_checkpoints
set event = numbered.event
from (
    select
        outcome.id,
        row_number() over (
            partition by outcome.workflow_execution_id
            order by outcome.second asc, outcome.microsecond asc, outcome.id asc
        ) as event
    from (
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
    ) as outcome
) as numbered
where step_checkpoints.id = numbered.id;

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
select
    step.workflow_execution_id,
    workflow.workflow_type,
    execution.status,
    step.branch,
    step.step_index,
    step.attempt,
    step.step_name,
    'INTENT' as step_status,
    step.idempotency_key,
    step.started_at,
    claim.worker_id,
    claim.claimed_at,
    round((julianday('now') - julianday(step.started_at)) * 86400, 1) as age_seconds,
    step.id as checkpoint_id
from workflow_executions as execution
inner join workflow_open_steps as step
    on execution.workflow_execution_id = step.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join workflow_claims as claim
    on execution.workflow_execution_id = claim.workflow_execution_id
where
    execution.status in ('RUNNING', 'COMPENSATING')
    and step.kind = 'STEP'
    and step.waiting_for is null
union all
select
    step.workflow_execution_id,
    workflow.workflow_type,
    execution.status,
    step.branch,
    step.step_index,
    step.attempt,
    step.step_name,
    'FAILED' as step_status,
    step.idempotency_key,
    step.started_at,
    claim.worker_id,
    claim.claimed_at,
    round((julianday('now') - julianday(step.started_at)) * 86400, 1) as age_seconds,
    step.id as checkpoint_id
from step_checkpoints as step
inner join workflow_executions as execution
    on step.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join workflow_claims as claim
    on execution.workflow_execution_id = claim.workflow_execution_id
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
    );
