-- Views for people with questions, and the indexes that answer them as quickly in
-- a file of a million executions as in one of a hundred. The engine reads none of
-- them.
--
-- Ages are counted from now, by the clock of the machine that asks. Where a time
-- was written by hand and is none, the age is null.

-- The newest executions of a status, or of a status and a workflow, and how many
-- there are: all without reading the table.

drop index idx_wf_exec_status;

create index idx_wf_exec_status on workflow_executions (
    status,
    workflow_id,
    created_at
);

-- What executions are at: each attempt that has begun and not ended, each wait, and
-- each failed attempt that is to be retried. An attempt that a later one of the same
-- step has followed is over, whatever its status. Attempt 0 is the compensation.

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

-- Each execution in a row: where it is, and what it waits for until when. Of several
-- open steps it shows one that runs, else the one that is due first. Of a FAILED
-- execution it shows the step that failed last. worker_id is who has claimed it, and
-- may be dead: workflow_claims says more.

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
    end as waiting_for,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        when open_step.id is not null then open_step.waiting_until
        when execution.status = 'PENDING' then execution.available_at
    end as waiting_until,
    (
        select count(*)
        from workflow_signals as signal
        where
            signal.workflow_execution_id = execution.workflow_execution_id
            and signal.status = 'PENDING'
    ) as signals_pending,
    execution.blocked_reason,
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

-- Each attempt of each step in a row, with the time that it took. Ask for one
-- execution, and order by started_at.

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

-- Steps that have begun and not ended. While the worker in worker_id lives, it runs
-- them; where there is none, or it is dead, nobody knows whether they took effect,
-- and they run again when a worker takes the execution over. A worker lives as long
-- as it holds the lock on its file beside the database, DATABASE-worker-WORKER_ID.

create view workflow_in_doubt as
select
    step.workflow_execution_id,
    workflow.workflow_type,
    execution.status,
    step.branch,
    step.step_index,
    step.attempt,
    step.step_name,
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
    and step.waiting_for is null;

-- Deadlines of sleeps and waits that are still to come, or to be noticed. Order by
-- fire_at. due_in_seconds is negative for one that should have been noticed.

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

-- Executions that workers leave alone until an operator does something.

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

-- How many executions of each workflow began and ended in each hour (UTC). It reads
-- every execution.

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
