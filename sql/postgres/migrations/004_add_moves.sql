-- Executions can be moved to another database: see 033 of sql/migrations. Here one trigger
-- stands for each table, and it runs once a statement.

create table durable_workflow.workflow_moves (
    direction text collate "C" primary key,
    move_id text collate "C" not null,
    other text not null,
    started_at timestamptz not null,
    finished_at timestamptz,
    moved_by text not null,
    put_off text,
    constraint direction_is_known check (direction in ('OUT', 'IN'))
);

create function durable_workflow.refuse_what_is_moved() returns trigger
language plpgsql as $$
begin
    if
        exists (
            select 1
            from durable_workflow.workflow_moves
            where direction = 'OUT'
        )
    then
        raise exception 'moved to another database: see workflow_moves';
    end if;
    return null;
end;
$$;

create trigger trg_wf_claim_fenced
before insert on durable_workflow.workflow_claims
for each statement execute function durable_workflow.refuse_what_is_moved();

create trigger trg_wf_exec_fenced
before insert or delete on durable_workflow.workflow_executions
for each statement execute function durable_workflow.refuse_what_is_moved();

create trigger trg_wf_signal_fenced
before insert or delete on durable_workflow.workflow_signals
for each statement execute function durable_workflow.refuse_what_is_moved();

create trigger trg_wf_audit_fenced
before insert on durable_workflow.workflow_audit_log
for each statement execute function durable_workflow.refuse_what_is_moved();

create trigger trg_wf_limit_fenced
before insert or update or delete on durable_workflow.workflow_limits
for each statement execute function durable_workflow.refuse_what_is_moved();

create trigger trg_wf_pause_fenced
before insert or update or delete on durable_workflow.workflow_pauses
for each statement execute function durable_workflow.refuse_what_is_moved();

create trigger trg_wf_limit_use_fenced
before delete on durable_workflow.workflow_limit_uses
for each statement execute function durable_workflow.refuse_what_is_moved();

create trigger trg_wf_spreading_fenced
before delete on durable_workflow.workflow_spreading
for each statement execute function durable_workflow.refuse_what_is_moved();

create trigger trg_wf_schedule_fenced
before insert or update or delete on durable_workflow.workflow_schedules
for each statement execute function durable_workflow.refuse_what_is_moved();

create trigger trg_wf_worker_fenced
before insert or update or delete on durable_workflow.workflow_workers
for each statement execute function durable_workflow.refuse_what_is_moved();
