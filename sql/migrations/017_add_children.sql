-- An execution may have a parent: an execution whose workflow function started it. The
-- ends of the two meet in the database, in the transaction that writes them, whoever
-- writes them: a worker, a person, or somebody with plain SQL.
--
-- A parent is told of the end of a child by a signal with the name `$child:ID`. A parent
-- that ends asks its children to cancel by the signal `$cancel`. An execution without a
-- parent and without children pays for one search for its children as it ends.

alter table workflow_executions
add column parent_execution_id text;

alter table workflow_executions
add column root_execution_id text;

alter table workflow_executions
add column on_parent_end text
constraint on_parent_end_is_known
check (on_parent_end = 'cancel' or on_parent_end = 'detach');

alter table workflow_executions
add column run_number integer not null default 1
constraint run_number_is_1_or_more check (run_number >= 1);

create index idx_wf_exec_parent on workflow_executions (parent_execution_id, status)
where parent_execution_id is not null;

-- The payload of `$child:ID` says how the child ended. Its output is copied, so that the
-- parent gets it also where the child is deleted first. A parent that is over gets the
-- signal as EXPIRED: if it is run again, it finds out.

create trigger trg_wf_exec_ends
after update of status on workflow_executions
when
    new.status != old.status
    and new.status in ('COMPLETED', 'FAILED', 'CANCELLED')
    and new.parent_execution_id is not null
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

-- A parent asks its children to cancel as soon as it begins to undo, or is over. `exists`
-- is there for speed: to begin an insert costs more than to find that there is no child.

create trigger trg_wf_exec_ends_children
after update of status on workflow_executions
when
    new.status != old.status
    and new.status in ('COMPENSATING', 'COMPLETED', 'FAILED', 'CANCELLED')
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
end;

-- Somebody deletes an execution that is not over: its parent and its children are told.
-- Where one statement deletes a whole tree, the signals that the execution itself has
-- got in it are deleted with it.

create trigger trg_wf_exec_deleted
after delete on workflow_executions
when old.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
begin
    delete from workflow_signals
    where
        workflow_execution_id = old.workflow_execution_id
        and (signal_name = '$cancel' or signal_name glob '$child:*');

    insert into workflow_signals (
        workflow_execution_id,
        signal_name,
        payload,
        status,
        created_at
    )
    select
        parent.workflow_execution_id,
        '$child:' || old.workflow_execution_id,
        json_object('status', 'DELETED'),
        iif(
            parent.status in ('COMPLETED', 'FAILED', 'CANCELLED'),
            'EXPIRED',
            'PENDING'
        ),
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    from workflow_executions as parent
    where parent.workflow_execution_id = old.parent_execution_id;

    insert into workflow_signals (workflow_execution_id, signal_name)
    select
        child.workflow_execution_id,
        '$cancel'
    from workflow_executions as child
    where
        child.parent_execution_id = old.workflow_execution_id
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
end;

-- `$child:ID` wakes a parent only if that waits for it, as any other signal does.

drop trigger trg_wf_signal_wakes;

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
