-- The pause of an execution holds its descendants, too: those that its end would cancel.
-- paused_with names the nearest of those above that is paused itself. The pause is handed
-- down from a parent to its children in parts, so that a large tree keeps nobody from the
-- lock for long. workflow_spreading says which parents are not done yet: whoever sees a
-- row goes on with it, also if the process that began it has died.

alter table workflow_executions add column paused_with text;

create table workflow_spreading (
    workflow_execution_id text not null primary key
) strict, without rowid;

-- The children of one parent that are not held by the same pause as the others.

drop index idx_wf_exec_parent;

create index idx_wf_exec_parent on workflow_executions (
    parent_execution_id, status, paused_with
)
where parent_execution_id is not null;

-- How many are held, and by whom.

create index idx_wf_exec_paused_with on workflow_executions (paused_with)
where paused_with is not null;

drop index if exists idx_wf_exec_unqueued;

create index idx_wf_exec_unqueued on workflow_executions (status)
where
    status = 'PENDING'
    and available_at is null
    and guarantee = 'BEST_EFFORT_BACKGROUND'
    and paused_at is null
    and paused_with is null;

-- What holds the children of an execution has changed: by a pause, by its end, or by the
-- end of the execution.

create trigger trg_wf_exec_spreads_pause
after update of status, paused_at, paused_with on workflow_executions
when
    case
        when new.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        when new.paused_at is not null then new.workflow_execution_id
        else new.paused_with
    end
    is not
    case
        when old.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        when old.paused_at is not null then old.workflow_execution_id
        else old.paused_with
    end
    and exists (
        select 1
        from workflow_executions as child
        where child.parent_execution_id = new.workflow_execution_id
    )
begin
    insert into workflow_spreading (workflow_execution_id)
    select new.workflow_execution_id
    where
        not exists (
            select 1
            from workflow_spreading
            where workflow_spreading.workflow_execution_id = new.workflow_execution_id
        );
end;

create trigger trg_wf_exec_deleted_paused
after delete on workflow_executions
when
    old.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and (old.paused_at is not null or old.paused_with is not null)
begin
    insert into workflow_spreading (workflow_execution_id)
    select old.workflow_execution_id
    where
        not exists (
            select 1
            from workflow_spreading
            where workflow_spreading.workflow_execution_id = old.workflow_execution_id
        );
end;

-- A child that is started under a parent that is held is held from the beginning; and so
-- is one that had ended, and is run again.

create trigger trg_wf_exec_starts_paused
after insert on workflow_executions
when new.parent_execution_id is not null and new.on_parent_end = 'cancel'
begin
    update workflow_executions
    set
        paused_with = (
            select
                iif(
                    parent.paused_at is null,
                    parent.paused_with,
                    parent.workflow_execution_id
                )
            from workflow_executions as parent
            where parent.workflow_execution_id = new.parent_execution_id
        ),
        available_at = null
    where
        workflow_execution_id = new.workflow_execution_id
        and exists (
            select 1
            from workflow_executions as parent
            where
                parent.workflow_execution_id = new.parent_execution_id
                and parent.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
                and (parent.paused_at is not null or parent.paused_with is not null)
        );
end;

create trigger trg_wf_exec_opens_paused
after update of status on workflow_executions
when
    new.parent_execution_id is not null
    and new.on_parent_end = 'cancel'
    and old.status in ('COMPLETED', 'FAILED', 'CANCELLED')
    and new.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
begin
    update workflow_executions
    set
        paused_with = (
            select
                iif(
                    parent.paused_at is null,
                    parent.paused_with,
                    parent.workflow_execution_id
                )
            from workflow_executions as parent
            where
                parent.workflow_execution_id = new.parent_execution_id
                and parent.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
        )
    where workflow_execution_id = new.workflow_execution_id;
end;

-- A signal wakes nothing that is held with its parent, either.

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
        and paused_with is null
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

-- What is paused already holds its children from now on.

insert into workflow_spreading (workflow_execution_id)
select parent.workflow_execution_id
from workflow_executions as parent
where
    parent.paused_at is not null
    and +parent.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and exists (
        select 1
        from workflow_executions as child
        where child.parent_execution_id = parent.workflow_execution_id
    );
