-- Executions can be moved to another database. From the moment at which that begins,
-- nothing may be written here any more, or it would be lost. So each way to begin
-- something is closed: a claim, a start, a signal, what a person does, a deletion. The
-- claims are deleted as the move begins, and so nothing is written under one either.

create table workflow_moves (
    direction   text not null primary key,
    move_id     text not null,
    other       text not null,
    started_at  text not null,
    finished_at text,
    moved_by    text not null,
    put_off     text,
    constraint direction_is_known check (direction = 'OUT' or direction = 'IN'),
    constraint started_at_is_a_time
    check (started_at glob '????-??-??T??:??:??.??????Z'),
    constraint finished_at_is_a_time
    check (finished_at glob '????-??-??T??:??:??.??????Z')
) strict;

create trigger trg_wf_claim_fenced_insert
before insert on workflow_claims
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_exec_fenced_insert
before insert on workflow_executions
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_exec_fenced_delete
before delete on workflow_executions
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_signal_fenced_insert
before insert on workflow_signals
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_signal_fenced_delete
before delete on workflow_signals
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_audit_fenced_insert
before insert on workflow_audit_log
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_limit_fenced_insert
before insert on workflow_limits
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_limit_fenced_update
before update on workflow_limits
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_limit_fenced_delete
before delete on workflow_limits
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_pause_fenced_insert
before insert on workflow_pauses
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_pause_fenced_update
before update on workflow_pauses
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_pause_fenced_delete
before delete on workflow_pauses
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_limit_use_fenced_delete
before delete on workflow_limit_uses
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_spreading_fenced_delete
before delete on workflow_spreading
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_schedule_fenced_insert
before insert on workflow_schedules
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_schedule_fenced_update
before update on workflow_schedules
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_schedule_fenced_delete
before delete on workflow_schedules
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_worker_fenced_insert
before insert on workflow_workers
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_worker_fenced_update
before update on workflow_workers
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;

create trigger trg_wf_worker_fenced_delete
before delete on workflow_workers
when
    exists (
        select 1
        from workflow_moves
        where direction = 'OUT'
    )
begin
    select raise(abort, 'moved to another database: see workflow_moves');
end;
