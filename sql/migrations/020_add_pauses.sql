-- What is paused: an execution, by its own columns; a workflow, or everything, by a row
-- of workflow_pauses. A pause is no status: what is paused goes on with the status that
-- it had.
--
-- An execution that is paused itself has no available_at, so the queue does not grow by
-- it. What is held by a row of workflow_pauses stays in the queue, and the queue of its
-- workflow is passed over as a whole.

alter table workflow_executions add column paused_at text
constraint paused_at_is_a_time check (paused_at glob '????-??-??T??:??:??.??????Z');

alter table workflow_executions add column paused_by text;

alter table workflow_executions add column paused_reason text;

create table workflow_pauses (
    scope         text not null,
    name          text not null,
    paused_at     text not null default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
    paused_by     text not null,
    paused_reason text,
    primary key (scope, name),
    constraint scope_is_known check (scope = 'WORKFLOW' or scope = 'ALL'),
    constraint name_is_that_of_a_workflow check ((name = '') = (scope = 'ALL')),
    constraint paused_at_is_a_time check (
        paused_at glob '????-??-??T??:??:??.??????Z'
    )
) strict, without rowid;

-- Those that are paused themselves, for people.

create index idx_wf_exec_paused on workflow_executions (created_at)
where paused_at is not null;

-- An engine that starts looks through those that were written by hand without an
-- available_at. Those that are paused have none either, and are not among them.

drop index if exists idx_wf_exec_unqueued;

create index idx_wf_exec_unqueued on workflow_executions (status)
where
    status = 'PENDING'
    and available_at is null
    and guarantee = 'BEST_EFFORT_BACKGROUND'
    and paused_at is null;

-- A signal does not wake what is paused: it is kept, and counts once that is resumed.

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
        and paused_at is null
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
            or (new.signal_name glob '$*' and new.signal_name not glob '$child:*')
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

-- The views workflow_overview and workflow_queue say what is paused; workflow_paused
-- lists it.
