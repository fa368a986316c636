-- What needs a person says so, with since when, why, and what comes next; and it goes
-- off the lists when a person has dealt with it.
--
-- trouble_since   when the first worker left the execution as it is, since it last made
--                 progress; it stays while another worker tries
-- acknowledged_at when a person said that a step that was cut off is dealt with; null
--                 while nobody has

alter table workflow_executions add column trouble_since text;

update workflow_executions
set trouble_since = updated_at
where
    trouble is not null
    and status not in ('COMPLETED', 'FAILED', 'CANCELLED');

alter table step_checkpoints add column acknowledged_at text;

-- workflow_not_undone: the compensations that failed for good. `attempt < 1` and not
-- `attempt = 0`: SQLite compares the latter with the value of each `attempt = ?`, and
-- compiles the statement anew for each other value.

create index idx_step_cp_not_undone on step_checkpoints (workflow_execution_id)
where attempt < 1 and status = 'FAILED';

-- workflow_in_doubt: the steps that were cut off. As before, without those that are
-- dealt with.

drop index idx_step_cp_cut_off;

create index idx_step_cp_cut_off on step_checkpoints (workflow_execution_id)
where
    status = 'FAILED'
    and error_type = 'asyncio.exceptions:CancelledError'
    and event is null
    and acknowledged_at is null;

-- What a step did that should be undone, and is not: its compensation failed, and its
-- policy allows no other attempt. `durable-workflow retry` runs it again.

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

-- What is being undone, and has failed to be so far: since when, why, and when the next
-- try is.

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

-- What workers left as it is, as before, with since when.

drop view workflow_in_trouble;

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

-- Each execution in a row, as before; with since when it has its status and waits, what
-- went wrong at its step the last time, and how many steps are not undone.

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

-- Steps that have begun and not ended, and those that were cut off, as before; without
-- those that a person has dealt with.

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
