-- An execution whose worker left it as it is, for a reason that does not pass by
-- itself, says so: code that does not fit its records, say, or a row that cannot be
-- read. Until now the worker's log alone had the reason.
--
-- trouble  why the last worker that had it left it as it is; null once a worker has
--          it again. Unlike one that is blocked, any worker may still take it on

alter table workflow_executions add column trouble text;

-- load_in_trouble, count_in_trouble and pick_in_trouble: what waits for somebody to
-- act, by age. It holds those alone, so it costs the others nothing.

create index idx_wf_exec_trouble on workflow_executions (created_at)
where
    trouble is not null
    and status not in ('COMPLETED', 'FAILED', 'CANCELLED');

-- Each execution in a row, as before, now with its trouble.

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

-- Executions whose worker left them as they are, until somebody does something about
-- the reason.

create view workflow_in_trouble as
select
    execution.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    execution.trouble,
    execution.created_at,
    execution.updated_at
from workflow_executions as execution
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.trouble is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED');
