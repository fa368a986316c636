-- What 004_add_queue began, put right: an index that held too much, and signals that
-- were taken too lightly.

-- load_unqueued: the executions that only an engine that starts up may take over. It
-- held the finished ones, too, and so grew with the history.

drop index idx_wf_exec_foreground;

create index idx_wf_exec_foreground on workflow_executions (status)
where
    guarantee = 'FOREGROUND_ONLY'
    and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING');

-- A signal whose time cannot be read would never be taken, and its sender would not
-- know why.

create trigger trg_wf_signal_time
before insert on workflow_signals
when julianday(new.created_at) is null
begin
    select raise(abort, 'created_at is no time; leave it out for now');
end;

-- A signal wakes an execution that nobody has, whoever inserts it. One that has not
-- begun keeps its delay, unless it is to be cancelled.

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
        );
end;
