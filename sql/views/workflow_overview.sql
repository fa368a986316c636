-- workflow_overview: all executions, a row for each: its current step, what it waits
-- for, and until when.
--
-- workflow_execution_id  text          the execution
-- workflow_type          text null     the name of its workflow
-- version                integer null  the version of its workflow
-- status                 text          as in workflow_executions
-- steps_begun            integer       how many steps had begun when its row was last
--                                      written
-- steps_completed        integer       how many attempts are COMPLETED
-- current_step           text null     a step that runs, else the wait that ends first;
--                                      of a FAILED one, the step that failed last
-- current_branch         text null     the branch of that step
-- attempts               integer null  at which attempt that step is
-- waiting_for            text null     signal NAME, child ID, time, retry of STEP,
--                                      probe of STEP, answer about STEP (by a person), or
--                                      worker; null when a step has begun and not
--                                      ended, whether its worker lives or not
-- waiting_until          text null     when that wait ends by itself, or a timer of
--                                      asyncio wakes it; null if neither will
-- waiting_since          text null     since when it waits; of a compensation that is
--                                      to be tried again, when its last try began; null
--                                      when it does not wait
-- step_error_type        text null     the class of the error of the last attempt of
--                                      that step
-- step_error_message     text null     what that error said: why it is tried again
-- steps_not_undone       integer       how many compensations have failed for good
-- signals_pending        integer       signals that nothing has waited for yet; the
--                                      ends of children do not count
-- blocked_reason         text null     why no worker claims it
-- trouble                text null     why its last worker left it as it is; null once
--                                      a worker has it again, and when it is over
-- trouble_since          text null     when the first worker left it so; null where
--                                      trouble is null
-- queue                  text null     the named queue in which it is
-- paused_at              text null     since when it is paused, or one above it, its
--                                      workflow, its queue, or everything; null if
--                                      nothing holds it
-- paused_by              text null     who paused that
-- paused_reason          text null     why; null if that person did not say
-- paused_scope           text null     what is paused: EXECUTION, TREE (one above it),
--                                      WORKFLOW, QUEUE or ALL, the first that holds it
-- paused_with            text null     the execution above it whose pause holds it, too;
--                                      null if none does
-- error_type             text null     the class of the error that ended it
-- error_message          text null     what that error said
-- parent_execution_id    text null     the execution that started it as a child
-- root_execution_id      text null     the execution at the top of its tree; null if it
--                                      has no parent
-- on_parent_end          text null     cancel or detach: what it does when its parent is
--                                      undone or over
-- run_number             integer       1, and one more each time that it continued as
--                                      new
-- forked_from            text null     the execution whose first records it began with
-- forked_before          text null     the step before which these records end; null if
--                                      it began with all that had completed
-- recovery_count         integer       as in workflow_executions
-- worker_id              text null     who has claimed it, and may be dead
-- claimed_at             text null     when that was
-- available_at           text null     the time from which any worker may claim it
-- created_at             text          when it was started, or enqueued
-- started_at             text null     when a worker first claimed it
-- updated_at             text          when its row was last written
-- status_since           text          since when it has its status
-- ttl_expires_at         text null     when it must be over
-- age_seconds            real null     since it was started
-- took_seconds           real null     from its start to its end; null while it is not
--                                      over
-- queued_seconds         real null     from its start until a worker first claimed it,
--                                      or until now; a delay that it was enqueued with
--                                      counts. Null if an older version claimed it
-- running_seconds        real null     from then to its end, or until now; its waits
--                                      count. Null if no worker has claimed it

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
            and signal.signal_name not glob '$child:*'
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
left join workflow_executions as holder
    on execution.paused_with = holder.workflow_execution_id
left join workflow_pauses as pause
    on pause.scope = 'WORKFLOW' and workflow.workflow_type = pause.name
left join workflow_pauses as pause_of_queue
    on pause_of_queue.scope = 'QUEUE' and execution.queue = pause_of_queue.name
left join workflow_pauses as pause_of_all
    on pause_of_all.scope = 'ALL' and pause_of_all.name = ''
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
