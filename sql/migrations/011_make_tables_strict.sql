-- The tables refuse what the library could not read: a value of another type, a text
-- that is no JSON, a time in another form, a count below zero, an identifier that is
-- null. Each check is named after the rule, which SQLite says when it refuses a row. A
-- check of a time looks at its form only. started_at, status_since, completed_at and
-- claimed_at have no check: a worker claims many executions in one transaction, and one
-- broken row among them must not stop it.
--
-- To run this file by hand, first: pragma foreign_keys = off;
-- pragma legacy_alter_table = on; pragma ignore_check_constraints = on; (tables are
-- rebuilt that views read from, and a row that breaks a check is kept). A value of
-- another type is not kept: it stops this file until it is corrected. To find one:
-- select rowid, typeof(COLUMN) from TABLE
-- where typeof(COLUMN) not in ('integer', 'null'); and for a text column, 'text'.
--
-- Times that have a check get one form, UTC with six digits and a Z, so that text sorts
-- as time does. In SQL: strftime('%Y-%m-%dT%H:%M:%f000Z', 'now').
--
-- status_since   since when the execution has its status; for a final one, its end. In
--                rows of older versions, when the row was last written
-- refused_reason why no wait took a REFUSED signal; null for others
-- is_stopping    1 once the worker of a claim was told to stop; else 0. If it dies after
--                that, its death does not count in recovery_count

create table new_workflows (
    workflow_id   text    not null primary key,
    workflow_type text    not null,
    version       integer not null default 1
    constraint version_is_1_or_more check (version >= 1),
    created_at    text    not null default (
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    )
    constraint created_at_is_a_time check (
        created_at glob '????-??-??T??:??:??.??????Z'
    ),
    constraint workflow_type_is_not_empty check (workflow_type != '')
) strict;

insert into new_workflows (workflow_id, workflow_type, version, created_at)
select
    coalesce(workflow_id, 'unnamed ' || rowid) as workflow_id,
    workflow_type,
    version,
    iif(
        created_at glob '????-??-??*'
        and created_at not glob '????-??-??T??:??:??.??????Z',
        coalesce(strftime('%Y-%m-%dT%H:%M:%f000Z', created_at), created_at),
        created_at
    ) as created_at
from workflows
order by rowid;

drop table workflows;

alter table new_workflows rename to workflows;

create table new_workflow_executions (
    workflow_execution_id text    not null primary key,
    workflow_id           text    not null references workflows (workflow_id),
    status                text    not null default 'PENDING'
    constraint status_is_known check (
        status = 'RUNNING'
        or status = 'COMPLETED'
        or status = 'SUSPENDED'
        or status = 'PENDING'
        or status = 'FAILED'
        or status = 'COMPENSATING'
        or status = 'CANCELLED'
    ),
    current_step          integer not null default 0
    constraint current_step_is_0_or_more check (current_step >= 0),
    input_data            text
    constraint input_data_is_json check (
        input_data is null or json_valid(input_data)
    ),
    output_data           text
    constraint output_data_is_json check (
        output_data is null or json_valid(output_data)
    ),
    error_message         text,
    ttl_expires_at        text
    constraint ttl_expires_at_is_a_time check (
        ttl_expires_at glob '????-??-??T??:??:??.??????Z'
    ),
    guarantee             text    not null default 'FOREGROUND_ONLY'
    constraint guarantee_is_known check (
        guarantee = 'BEST_EFFORT_BACKGROUND' or guarantee = 'FOREGROUND_ONLY'
    ),
    created_at            text    not null default (
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    )
    constraint created_at_is_a_time check (
        created_at glob '????-??-??T??:??:??.??????Z'
    ),
    updated_at            text    not null default (
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    )
    constraint updated_at_is_a_time check (
        updated_at glob '????-??-??T??:??:??.??????Z'
    ),
    error_type            text,
    recovery_count        integer not null default 0
    constraint recovery_count_is_0_or_more check (recovery_count >= 0),
    blocked_reason        text,
    priority              integer not null default 0,
    available_at          text
    constraint available_at_is_a_time check (
        available_at glob '????-??-??T??:??:??.??????Z'
    ),
    trouble               text,
    last_event            integer
    constraint last_event_is_0_or_more check (last_event >= 0),
    started_at            text,
    status_since          text    not null default (
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    ),
    constraint workflow_execution_id_is_not_empty check (workflow_execution_id != '')
) strict;

insert into new_workflow_executions (
    workflow_execution_id,
    workflow_id,
    status,
    current_step,
    input_data,
    output_data,
    error_message,
    ttl_expires_at,
    guarantee,
    created_at,
    updated_at,
    error_type,
    recovery_count,
    blocked_reason,
    priority,
    available_at,
    trouble,
    last_event,
    started_at,
    status_since
)
select
    coalesce(workflow_execution_id, 'unnamed ' || rowid) as workflow_execution_id,
    workflow_id,
    status,
    coalesce(current_step, 0) as current_step,
    cast(input_data as text) as input_data,
    cast(output_data as text) as output_data,
    error_message,
    iif(
        ttl_expires_at glob '????-??-??*'
        and ttl_expires_at not glob '????-??-??T??:??:??.??????Z',
        coalesce(strftime('%Y-%m-%dT%H:%M:%f000Z', ttl_expires_at), ttl_expires_at),
        ttl_expires_at
    ) as ttl_expires_at,
    guarantee,
    iif(
        created_at glob '????-??-??*'
        and created_at not glob '????-??-??T??:??:??.??????Z',
        coalesce(strftime('%Y-%m-%dT%H:%M:%f000Z', created_at), created_at),
        created_at
    ) as created_at,
    iif(
        updated_at glob '????-??-??*'
        and updated_at not glob '????-??-??T??:??:??.??????Z',
        coalesce(strftime('%Y-%m-%dT%H:%M:%f000Z', updated_at), updated_at),
        updated_at
    ) as updated_at,
    error_type,
    recovery_count,
    blocked_reason,
    priority,
    iif(
        available_at glob '????-??-??*'
        and available_at not glob '????-??-??T??:??:??.??????Z',
        coalesce(strftime('%Y-%m-%dT%H:%M:%f000Z', available_at), available_at),
        available_at
    ) as available_at,
    trouble,
    last_event,
    iif(
        started_at glob '????-??-??*'
        and started_at not glob '????-??-??T??:??:??.??????Z',
        coalesce(strftime('%Y-%m-%dT%H:%M:%f000Z', started_at), started_at),
        started_at
    ) as started_at,
    iif(
        updated_at glob '????-??-??*'
        and updated_at not glob '????-??-??T??:??:??.??????Z',
        coalesce(strftime('%Y-%m-%dT%H:%M:%f000Z', updated_at), updated_at),
        updated_at
    ) as status_since
from workflow_executions
order by rowid;

drop table workflow_executions;

alter table new_workflow_executions rename to workflow_executions;

create table new_workflow_timers (
    workflow_timer_id     text not null primary key,
    workflow_execution_id text not null references workflow_executions (
        workflow_execution_id
    ),
    step_name             text not null,
    fire_at               text not null
    constraint fire_at_is_a_time check (
        fire_at glob '????-??-??T??:??:??.??????Z'
    ),
    status                text not null default 'PENDING'
    constraint status_is_known check (
        status = 'PENDING' or status = 'FIRED' or status = 'CANCELLED'
    ),
    created_at            text not null default (
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    )
    constraint created_at_is_a_time check (
        created_at glob '????-??-??T??:??:??.??????Z'
    )
) strict;

insert into new_workflow_timers (
    workflow_timer_id,
    workflow_execution_id,
    step_name,
    fire_at,
    status,
    created_at
)
select
    coalesce(workflow_timer_id, 'unnamed ' || rowid) as workflow_timer_id,
    workflow_execution_id,
    step_name,
    iif(
        fire_at glob '????-??-??*'
        and fire_at not glob '????-??-??T??:??:??.??????Z',
        coalesce(strftime('%Y-%m-%dT%H:%M:%f000Z', fire_at), fire_at),
        fire_at
    ) as fire_at,
    status,
    iif(
        created_at glob '????-??-??*'
        and created_at not glob '????-??-??T??:??:??.??????Z',
        coalesce(strftime('%Y-%m-%dT%H:%M:%f000Z', created_at), created_at),
        created_at
    ) as created_at
from workflow_timers
order by rowid;

drop table workflow_timers;

alter table new_workflow_timers rename to workflow_timers;

create table new_workflow_signals (
    workflow_signal_id    integer primary key autoincrement,
    workflow_execution_id text    not null references workflow_executions (
        workflow_execution_id
    ),
    signal_name           text    not null
    constraint signal_name_is_not_empty check (signal_name != ''),
    payload               text
    constraint payload_is_json check (payload is null or json_valid(payload)),
    status                text    not null default 'PENDING'
    constraint status_is_known check (
        status = 'PENDING'
        or status = 'DELIVERED'
        or status = 'EXPIRED'
        or status = 'REFUSED'
    ),
    created_at            text    not null default (
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    )
    constraint created_at_is_a_time check (
        created_at glob '????-??-??T??:??:??.??????Z'
    ),
    refused_reason        text
) strict;

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
    cast(payload as text) as payload,
    status,
    iif(
        created_at glob '????-??-??*'
        and created_at not glob '????-??-??T??:??:??.??????Z',
        coalesce(strftime('%Y-%m-%dT%H:%M:%f000Z', created_at), created_at),
        created_at
    ) as created_at
from workflow_signals
order by workflow_signal_id;

-- The ids go on where they were: their order is the order of arrival.

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

create table new_workflow_claims (
    fencing_token         integer primary key autoincrement,
    workflow_execution_id text    not null unique references workflow_executions (
        workflow_execution_id
    ),
    worker_id             text    not null,
    claimed_at            text    not null,
    is_stopping           integer not null default 0
    constraint is_stopping_is_0_or_1 check (is_stopping = 0 or is_stopping = 1)
) strict;

insert into new_workflow_claims (
    fencing_token,
    workflow_execution_id,
    worker_id,
    claimed_at
)
select
    fencing_token,
    workflow_execution_id,
    worker_id,
    claimed_at
from workflow_claims
order by fencing_token;

-- No token is used twice.

delete from sqlite_sequence
where name = 'new_workflow_claims';

insert into sqlite_sequence (name, seq)
select
    'new_workflow_claims' as name,
    seq
from sqlite_sequence
where name = 'workflow_claims';

drop table workflow_claims;

alter table new_workflow_claims rename to workflow_claims;

create table new_step_checkpoints (
    id                    integer primary key,
    workflow_execution_id text    not null references workflow_executions (
        workflow_execution_id
    ),
    branch                text    not null default '',
    step_index            integer not null
    constraint step_index_is_0_or_more check (step_index >= 0),
    attempt               integer not null default 1
    constraint attempt_is_0_or_more check (attempt >= 0),
    step_name             text    not null,
    kind                  text    not null default 'STEP'
    constraint kind_is_known check (
        kind = 'STEP' or kind = 'SLEEP' or kind = 'SIGNAL'
    ),
    status                text    not null
    constraint status_is_known check (
        status = 'INTENT'
        or status = 'COMPLETED'
        or status = 'FAILED'
        or status = 'COMPENSATED'
    ),
    input_data            text
    constraint input_data_is_json check (
        input_data is null or json_valid(input_data)
    ),
    output_data           text
    constraint output_data_is_json check (
        output_data is null or json_valid(output_data)
    ),
    error_type            text,
    error_message         text,
    idempotency_key       text,
    compensate_ref        text,
    started_at            text,
    completed_at          text,
    due_at                text
    constraint due_at_is_a_time check (
        due_at glob '????-??-??T??:??:??.??????Z'
    ),
    event                 integer
    constraint event_is_1_or_more check (event >= 1)
) strict;

insert into new_step_checkpoints (
    id,
    workflow_execution_id,
    branch,
    step_index,
    attempt,
    step_name,
    kind,
    status,
    input_data,
    output_data,
    error_type,
    error_message,
    idempotency_key,
    compensate_ref,
    started_at,
    completed_at,
    due_at,
    event
)
select
    id,
    workflow_execution_id,
    branch,
    step_index,
    attempt,
    step_name,
    kind,
    status,
    cast(input_data as text) as input_data,
    cast(output_data as text) as output_data,
    error_type,
    error_message,
    idempotency_key,
    compensate_ref,
    started_at,
    completed_at,
    iif(
        due_at glob '????-??-??*'
        and due_at not glob '????-??-??T??:??:??.??????Z',
        coalesce(strftime('%Y-%m-%dT%H:%M:%f000Z', due_at), due_at),
        due_at
    ) as due_at,
    event
from step_checkpoints
order by id;

drop table step_checkpoints;

alter table new_step_checkpoints rename to step_checkpoints;

-- The indexes and the trigger, as they were; but idx_wf_signal_old now holds REFUSED
-- signals, too. trg_wf_signal_time is gone: the check created_at_is_a_time does its work.

create index idx_wf_timer_fire on workflow_timers (status, fire_at);

create index idx_wf_claim_worker on workflow_claims (worker_id);

create index idx_wf_timer_exec on workflow_timers (workflow_execution_id);

create index idx_wf_exec_available on workflow_executions (
    workflow_id,
    priority,
    available_at
)
where available_at is not null;

create index idx_wf_exec_blocked on workflow_executions (workflow_execution_id)
where blocked_reason is not null;

create index idx_wf_exec_status on workflow_executions (
    status,
    workflow_id,
    created_at
);

create index idx_wf_signal_old on workflow_signals (created_at)
where status in ('DELIVERED', 'EXPIRED', 'REFUSED');

create index idx_wf_exec_trouble on workflow_executions (created_at)
where
    trouble is not null
    and status not in ('COMPLETED', 'FAILED', 'CANCELLED');

create index idx_wf_exec_unqueued on workflow_executions (status)
where
    status = 'PENDING'
    and available_at is null
    and guarantee = 'BEST_EFFORT_BACKGROUND';

create index idx_wf_exec_foreground on workflow_executions (status)
where
    guarantee = 'FOREGROUND_ONLY'
    and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING');

create unique index idx_step_cp_exec on step_checkpoints (
    workflow_execution_id,
    branch,
    step_index,
    attempt
);

create index idx_wf_signal_pending on workflow_signals (
    workflow_execution_id,
    status,
    signal_name
);

create index idx_step_cp_awaited on step_checkpoints (
    workflow_execution_id,
    step_name
)
where kind = 'SIGNAL' and status = 'INTENT';

create trigger trg_wf_signal_wakes
after insert on workflow_signals
when new.status = 'PENDING'
begin
    update workflow_executions
    -- A signal that was inserted with a time to come is there now.
    set available_at = min(new.created_at, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
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

create index idx_step_cp_cut_off on step_checkpoints (workflow_execution_id)
where
    status = 'FAILED'
    and error_type = 'asyncio.exceptions:CancelledError'
    and event is null;
