-- A signal that no wait can read is REFUSED: the wait stays open, and the row says why.
--
-- To run this file by hand, first: pragma foreign_keys = off;
-- pragma legacy_alter_table = on; (a table is rebuilt that views read from).
--
-- refused_reason why a wait could not read the payload; null unless the signal is REFUSED

create table new_workflow_signals (
    workflow_signal_id    integer primary key autoincrement,
    workflow_execution_id text    not null references workflow_executions (
        workflow_execution_id
    ),
    signal_name           text    not null,
    payload               text,
    status                text    not null default 'PENDING' check (
        status in ('PENDING', 'DELIVERED', 'EXPIRED', 'REFUSED')
    ),
    created_at            text    not null default (
        strftime('%Y-%m-%dT%H:%M:%f', 'now')
    ),
    refused_reason        text
);

insert into new_workflow_signals (
    workflow_signal_id,
    workflow_execution_id,
    signal_name,
    payload,
    status,
    created_at
)
select
    workflow_signal_id,
    workflow_execution_id,
    signal_name,
    payload,
    status,
    created_at
from workflow_signals
order by workflow_signal_id;

-- The ids are the order of arrival, so none is given twice, also where the last rows are
-- deleted.

delete from sqlite_sequence
where name = 'new_workflow_signals';

insert into sqlite_sequence (name, seq)
select
    'new_workflow_signals' as name,
    seq
from sqlite_sequence
where name = 'workflow_signals';

drop table workflow_signals;

alter table new_workflow_signals rename to workflow_signals;

create index idx_wf_signal_pending on workflow_signals (
    workflow_execution_id,
    status,
    signal_name
);

create index idx_wf_signal_old on workflow_signals (created_at)
where status in ('DELIVERED', 'EXPIRED', 'REFUSED');

create trigger trg_wf_signal_time
before insert on workflow_signals
when julianday(new.created_at) is null
begin
    select raise(abort, 'created_at is no time; leave it out for now');
end;

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
