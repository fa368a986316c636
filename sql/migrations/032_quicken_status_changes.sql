-- A change of status takes a quarter of the time. SQLite builds a table of its own for
-- each `in` with three values or more, whenever it comes to one. It did so in the index
-- of what has ended, for the row before and after each change, and in each trigger. It
-- also copied the whole row before the change, with its input: it does that for a
-- trigger that names a column after the 32nd, as paused_with is.
--
-- So values are compared one by one here. A trigger looks first at what nearly always
-- settles it, and reads paused_with from the table.

drop index if exists idx_wf_exec_ended;

create index idx_wf_exec_ended on workflow_executions (
    status_since,
    status,
    workflow_id
)
where
    status != 'RUNNING'
    and status != 'SUSPENDED'
    and status != 'PENDING'
    and status != 'COMPENSATING';

-- An execution that ends tells its parent.

drop trigger if exists trg_wf_exec_ends;

create trigger trg_wf_exec_ends
after update of status on workflow_executions
when
    new.parent_execution_id is not null
    and new.status != old.status
    and (new.status = 'COMPLETED' or new.status = 'FAILED' or new.status = 'CANCELLED')
begin
    insert into workflow_signals (
        workflow_execution_id,
        signal_name,
        payload,
        status,
        created_at
    )
    select
        parent.workflow_execution_id,
        '$child:' || new.workflow_execution_id,
        json_object(
            'status', new.status,
            'output', json(coalesce(new.output_data, 'null')),
            'error_type', new.error_type,
            'error_message', new.error_message
        ),
        iif(
            parent.status in ('COMPLETED', 'FAILED', 'CANCELLED'),
            'EXPIRED',
            'PENDING'
        ),
        new.updated_at
    from workflow_executions as parent
    where parent.workflow_execution_id = new.parent_execution_id;
end;

-- One that ends, or begins to undo, cancels its children. If it held them while it was
-- paused, its end lets them go.

drop trigger if exists trg_wf_exec_ends_children;

create trigger trg_wf_exec_ends_children
after update of status on workflow_executions
when
    new.status != old.status
    and new.status != 'RUNNING'
    and new.status != 'SUSPENDED'
    and new.status != 'PENDING'
    and exists (
        select 1
        from workflow_executions as child
        where child.parent_execution_id = new.workflow_execution_id
    )
begin
    insert into workflow_signals (workflow_execution_id, signal_name, created_at)
    select
        child.workflow_execution_id,
        '$cancel',
        new.updated_at
    from workflow_executions as child
    where
        child.parent_execution_id = new.workflow_execution_id
        and child.status in ('PENDING', 'RUNNING', 'SUSPENDED')
        and child.on_parent_end = 'cancel'
        and not exists (
            select 1
            from workflow_signals as asked
            where
                asked.workflow_execution_id = child.workflow_execution_id
                and asked.signal_name = '$cancel'
                and asked.status = 'PENDING'
        );

    insert into workflow_spreading (workflow_execution_id)
    select ended.workflow_execution_id
    from workflow_executions as ended
    where
        ended.workflow_execution_id = new.workflow_execution_id
        and ended.status in ('COMPLETED', 'FAILED', 'CANCELLED')
        and old.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
        and (ended.paused_at is not null or ended.paused_with is not null)
        and not exists (
            select 1
            from workflow_spreading
            where workflow_spreading.workflow_execution_id = new.workflow_execution_id
        );
end;

-- One that had ended, and is run again, is held as its parent is, and holds its children
-- if it is paused.

drop trigger if exists trg_wf_exec_opens_paused;

create trigger trg_wf_exec_opens_paused
after update of status on workflow_executions
when
    (old.status = 'COMPLETED' or old.status = 'FAILED' or old.status = 'CANCELLED')
    and new.status != 'COMPLETED'
    and new.status != 'FAILED'
    and new.status != 'CANCELLED'
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
    where
        workflow_execution_id = new.workflow_execution_id
        and parent_execution_id is not null
        and on_parent_end = 'cancel';

    insert into workflow_spreading (workflow_execution_id)
    select opened.workflow_execution_id
    from workflow_executions as opened
    where
        opened.workflow_execution_id = new.workflow_execution_id
        and (opened.paused_at is not null or opened.paused_with is not null)
        and exists (
            select 1
            from workflow_executions as child
            where child.parent_execution_id = new.workflow_execution_id
        )
        and not exists (
            select 1
            from workflow_spreading
            where workflow_spreading.workflow_execution_id = new.workflow_execution_id
        );
end;

-- What holds its children has changed without a change of its status.

drop trigger if exists trg_wf_exec_spreads_pause;

create trigger trg_wf_exec_spreads_pause
after update of paused_at, paused_with on workflow_executions
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
