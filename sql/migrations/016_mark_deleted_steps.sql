-- A step that somebody deleted by hand stops its execution. The other steps show that
-- one is missing, except in two cases: the last step would run again, and nothing would
-- ever end an open wait.
--
-- blocked_reason names the rows. The library knows how it begins (DELETED_ROWS in
-- records.py), and how a row is named there.
--
-- blocked_reason stays until the execution is over, also if a worker has it. The library
-- itself deletes steps in two cases: with their execution, and where an execution runs
-- again from a step. Then the same transaction takes the mark away. The + keeps SQLite
-- from looking for the execution among all that are unfinished.

create trigger trg_step_cp_deleted
after delete on step_checkpoints
begin
    update workflow_executions
    set
        blocked_reason
        = iif(
            blocked_reason glob 'rows of step_checkpoints were deleted by hand: *',
            blocked_reason || ', ',
            'rows of step_checkpoints were deleted by hand: '
        )
        || iif(
            length(blocked_reason) < 1000 or blocked_reason is null,
            lower(old.kind) || ' ''' || old.step_name || ''' (index ' || old.step_index
            || iif(old.branch = '', '', ' of branch ''' || old.branch || '''')
            || ', attempt ' || old.attempt || ')',
            'others'
        ),
        available_at = null,
        updated_at = max(updated_at, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
    where
        workflow_execution_id = old.workflow_execution_id
        and +status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
        and (
            blocked_reason is null
            or blocked_reason not glob
            'rows of step_checkpoints were deleted by hand: *, others'
        );
end;

-- A signal wakes what waits for it at once, also if its created_at is still to come.
-- Before, such a signal did not wake an execution with an available_at before that.

drop trigger if exists trg_wf_signal_wakes;

create trigger trg_wf_signal_wakes
after insert on workflow_signals
when new.status = 'PENDING'
begin
    update workflow_executions
    set available_at = min(new.created_at, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
    where
        workflow_execution_id = new.workflow_execution_id
        and guarantee = 'BEST_EFFORT_BACKGROUND'
        and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
        and blocked_reason is null
        and (
            available_at is null
            or available_at
            > min(new.created_at, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
        )
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

-- Attempts that are to be made again, by their time: those that are still to come are
-- what an execution in a back-off waits for.

create index if not exists idx_step_cp_again
on step_checkpoints (due_at, workflow_execution_id)
where status = 'FAILED' and kind = 'STEP' and due_at is not null;

-- The view workflow_in_doubt lists steps that timed out, too: they may have taken
-- effect. The attempts that are to be tried again are not among them.

drop index if exists idx_step_cp_cut_off;

create index idx_step_cp_cut_off on step_checkpoints (workflow_execution_id)
where
    status = 'FAILED'
    and error_type in (
        'asyncio.exceptions:CancelledError',
        'durable_workflow_sqlite.errors:StepTimeoutError'
    )
    and due_at is null
    and acknowledged_at is null;

-- The views workflow_in_trouble and workflow_problems have a column place: the line of
-- code with the mistake. workflow_problems has a group for each.
