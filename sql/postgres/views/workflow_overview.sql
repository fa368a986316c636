-- workflow_overview: all executions, a row for each: its current step, what it waits
-- for, and until when.
-- sql/views/workflow_overview.sql says what each column means. The steps are joined
-- laterally, so that they are looked up for each execution.

create or replace view durable_workflow.workflow_overview as
select
    execution.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    execution.current_step as steps_begun,
    (
        select count(*)
        from durable_workflow.step_checkpoints as done
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
            -- The least of both leaves out a null.
            then least(
                open_step.waiting_until,
                (
                    select min(timer.fire_at)
                    from durable_workflow.workflow_timers as timer
                    where
                        timer.workflow_execution_id = execution.workflow_execution_id
                        and timer.status = 'PENDING'
                )
            )
        else open_step.waiting_until
    end as waiting_until,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        when open_step.id is not null
            then
                case
                    when open_step.waiting_for is not null
                        then coalesce(step.completed_at, open_step.started_at)
                end
        when execution.status in ('PENDING', 'SUSPENDED') then execution.status_since
    end as waiting_since,
    step.error_type as step_error_type,
    step.error_message as step_error_message,
    (
        select count(*)
        from durable_workflow.step_checkpoints as not_undone
        where
            not_undone.workflow_execution_id = execution.workflow_execution_id
            and not_undone.attempt < 1
            and not_undone.status = 'FAILED'
    ) as steps_not_undone,
    (
        select count(*)
        from durable_workflow.workflow_signals as signal
        where
            signal.workflow_execution_id = execution.workflow_execution_id
            and signal.status = 'PENDING'
            and signal.signal_name not like '$child:%'
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
    execution.queue,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        when execution.paused_at is not null then execution.paused_at
        when execution.paused_with is not null then holder.paused_at
        else
            coalesce(
                pause.paused_at, pause_of_queue.paused_at, pause_of_all.paused_at
            )
    end as paused_at,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        when execution.paused_at is not null then execution.paused_by
        when execution.paused_with is not null then holder.paused_by
        else
            coalesce(
                pause.paused_by, pause_of_queue.paused_by, pause_of_all.paused_by
            )
    end as paused_by,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        when execution.paused_at is not null then execution.paused_reason
        when execution.paused_with is not null then holder.paused_reason
        when pause.scope is not null then pause.paused_reason
        when pause_of_queue.scope is not null then pause_of_queue.paused_reason
        else pause_of_all.paused_reason
    end as paused_reason,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        when execution.paused_at is not null then 'EXECUTION'
        when execution.paused_with is not null then 'TREE'
        else coalesce(pause.scope, pause_of_queue.scope, pause_of_all.scope)
    end as paused_scope,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        else execution.paused_with
    end as paused_with,
    execution.error_type,
    execution.error_message,
    execution.parent_execution_id,
    execution.root_execution_id,
    execution.on_parent_end,
    execution.run_number,
    execution.forked_from,
    execution.forked_before,
    execution.recovery_count,
    claim.worker_id,
    claim.claimed_at,
    execution.available_at,
    execution.created_at,
    execution.started_at,
    execution.updated_at,
    execution.status_since,
    execution.ttl_expires_at,
    cast(
        round(
            extract(epoch from statement_timestamp() - execution.created_at), 1
        ) as double precision
    ) as age_seconds,
    case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED')
            then
                cast(
                    round(
                        extract(
                            epoch from execution.status_since - execution.created_at
                        ),
                        3
                    ) as double precision
                )
    end as took_seconds,
    case
        when execution.started_at is not null
            then
                cast(
                    round(
                        extract(
                            epoch from execution.started_at - execution.created_at
                        ),
                        3
                    ) as double precision
                )
        when execution.status = 'PENDING'
            then
                cast(
                    round(
                        extract(
                            epoch from statement_timestamp() - execution.created_at
                        ),
                        3
                    ) as double precision
                )
    end as queued_seconds,
    cast(
        round(
            extract(
                epoch from case
                    when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED')
                        then execution.status_since
                    else statement_timestamp()
                end - execution.started_at
            ),
            3
        ) as double precision
    ) as running_seconds
from durable_workflow.workflow_executions as execution
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join durable_workflow.workflow_claims as claim
    on execution.workflow_execution_id = claim.workflow_execution_id
left join durable_workflow.workflow_executions as holder
    on execution.paused_with = holder.workflow_execution_id
left join durable_workflow.workflow_pauses as pause
    on pause.scope = 'WORKFLOW' and workflow.workflow_type = pause.name
left join durable_workflow.workflow_pauses as pause_of_queue
    on pause_of_queue.scope = 'QUEUE' and execution.queue = pause_of_queue.name
left join durable_workflow.workflow_pauses as pause_of_all
    on pause_of_all.scope = 'ALL' and pause_of_all.name = ''
left join
    lateral (
        select
            candidate.id,
            candidate.waiting_for,
            candidate.waiting_until,
            candidate.started_at
        from durable_workflow.workflow_open_steps as candidate
        where
            candidate.workflow_execution_id = execution.workflow_execution_id
            and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
        order by
            candidate.waiting_for is not null asc,
            candidate.waiting_until is null asc,
            candidate.waiting_until asc,
            candidate.id desc
        limit 1
    ) as open_step
    on true
left join
    lateral (
        select
            shown.step_name,
            shown.branch,
            shown.attempt,
            shown.completed_at,
            shown.error_type,
            shown.error_message
        from durable_workflow.step_checkpoints as shown
        where
            shown.id = coalesce(
                open_step.id,
                (
                    select failed.id
                    from durable_workflow.step_checkpoints as failed
                    where
                        failed.workflow_execution_id = execution.workflow_execution_id
                        and execution.status = 'FAILED'
                        and failed.status = 'FAILED'
                        and (failed.due_at is null or failed.kind != 'STEP')
                        and failed.attempt > 0
                    order by failed.id desc
                    limit 1
                )
            )
        limit 1
    ) as step
    on true;
