-- A step that somebody deleted by hand stops its execution. What the steps left behind
-- tells of most of them, and not of the last one: it would simply run again. Nor of a
-- wait that is open: nothing would ever end it.

-- Also if the execution is in the hands of a worker: blocked_reason stays until it is
-- over. The library deletes steps where an execution runs again from one (and takes the
-- mark away in the same transaction), and those of executions that it deletes. The +
-- keeps SQLite from looking for the execution among all that are unfinished.

create trigger trg_step_cp_deleted
after delete on step_checkpoints
begin
    update workflow_executions
    set
        blocked_reason
        = 'the row of ' || lower(old.kind) || ' ''' || old.step_name
        || ''' (index ' || old.step_index
        || iif(old.branch = '', '', ' of branch ''' || old.branch || '''')
        || ', attempt ' || old.attempt
        || ') was deleted by hand from step_checkpoints, and maybe others:'
        || ' restore them, or a backup, and then unblock the execution',
        available_at = null,
        updated_at = max(updated_at, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
    where
        workflow_execution_id = old.workflow_execution_id
        and +status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
        and blocked_reason is null;
end;
