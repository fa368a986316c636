-- The tables of version 28 of sql/schema.sql, which says what each column means, in the
-- types of PostgreSQL: a time is a timestamptz, a flag is a boolean, a number that the
-- table gives is an identity. JSON stays text, since jsonb would put its keys into another
-- order and refuse "\u0000". Names sort by their bytes, as in SQLite, and so `collate "C"`.
--
-- Half of each page of an execution or of a step is left free for its updates, which then
-- change no index: most rows are written twice.
--
-- The schema is named durable_workflow here; who installs it may choose another name, and
-- may create it before, for a user who must not create schemas.

do $$
begin
    if to_regnamespace('durable_workflow') is null then
        create schema durable_workflow;
    end if;
end;
$$;

-- workflow_migrations: which files of sql/postgres/migrations have been applied, and when.

create table durable_workflow.workflow_migrations (
    version bigint primary key,
    name text not null,
    applied_at timestamptz not null default now()
);

-- workflows: a definition that executions were started from.

create table durable_workflow.workflows (
    workflow_id text collate "C" primary key,
    workflow_type text collate "C" not null,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    constraint version_is_1_or_more check (version >= 1),
    constraint workflow_type_is_not_empty check (workflow_type != '')
);

-- workflow_executions: one run of a workflow. COMPLETED, FAILED and CANCELLED are
-- final.

create table durable_workflow.workflow_executions (
    workflow_execution_id text collate "C" primary key,
    workflow_id text collate "C" not null,
    status text not null default 'PENDING',
    current_step bigint not null default 0,
    input_data text,
    output_data text,
    error_message text,
    ttl_expires_at timestamptz,
    guarantee text not null default 'FOREGROUND_ONLY',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    error_type text,
    recovery_count bigint not null default 0,
    blocked_reason text,
    priority bigint not null default 0,
    available_at timestamptz,
    trouble text,
    last_event bigint,
    started_at timestamptz,
    status_since timestamptz not null default now(),
    trouble_since timestamptz,
    parent_execution_id text collate "C",
    root_execution_id text collate "C",
    on_parent_end text,
    run_number bigint not null default 1,
    paused_at timestamptz,
    paused_by text,
    paused_reason text,
    schedule_name text collate "C",
    queue text collate "C",
    queue_key text collate "C",
    dedup_id text collate "C",
    debounced boolean not null default false,
    paused_with text collate "C",
    foreign key (workflow_id)
    references durable_workflow.workflows (workflow_id),
    constraint status_is_known
    check (
        status in (
            'RUNNING',
            'COMPLETED',
            'SUSPENDED',
            'PENDING',
            'FAILED',
            'COMPENSATING',
            'CANCELLED'
        )
    ),
    constraint current_step_is_0_or_more check (current_step >= 0),
    constraint input_data_is_json
    check (cast(input_data as json) is not null or input_data is null),
    constraint output_data_is_json
    check (cast(output_data as json) is not null or output_data is null),
    constraint guarantee_is_known
    check (guarantee in ('BEST_EFFORT_BACKGROUND', 'FOREGROUND_ONLY')),
    constraint recovery_count_is_0_or_more check (recovery_count >= 0),
    constraint last_event_is_0_or_more check (last_event >= 0),
    constraint on_parent_end_is_known check (on_parent_end in ('cancel', 'detach')),
    constraint run_number_is_1_or_more check (run_number >= 1),
    constraint workflow_execution_id_is_not_empty check (workflow_execution_id != '')
) with (fillfactor = 50);

create index idx_wf_exec_available on durable_workflow.workflow_executions (
    queue, workflow_id, priority,
    available_at
)
where available_at is not null;

create index idx_wf_exec_available_key on durable_workflow.workflow_executions (
    queue, queue_key, workflow_id,
    priority, available_at
)
where available_at is not null and queue is not null;

create index idx_wf_exec_blocked on durable_workflow.workflow_executions (
    workflow_execution_id
)
where blocked_reason is not null;

create unique index idx_wf_exec_dedup on durable_workflow.workflow_executions (
    coalesce(queue, ''), dedup_id
)
where dedup_id is not null
and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
and (not debounced or started_at is null);

create index idx_wf_exec_ended on durable_workflow.workflow_executions (
    status_since, status, workflow_id
)
where status not in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING');

create index idx_wf_exec_error on durable_workflow.workflow_executions (created_at)
where error_message is not null;

create index idx_wf_exec_foreground on durable_workflow.workflow_executions (status)
where guarantee = 'FOREGROUND_ONLY' and status in (
    'PENDING', 'RUNNING', 'SUSPENDED',
    'COMPENSATING'
);

create index idx_wf_exec_parent on durable_workflow.workflow_executions (
    parent_execution_id, status, paused_with
)
where parent_execution_id is not null;

create index idx_wf_exec_paused on durable_workflow.workflow_executions (created_at)
where paused_at is not null;

create index idx_wf_exec_paused_with on durable_workflow.workflow_executions (
    paused_with
)
where paused_with is not null;

create index idx_wf_exec_schedule on durable_workflow.workflow_executions (
    schedule_name, workflow_execution_id
)
where schedule_name is not null
and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING');

create index idx_wf_exec_status on durable_workflow.workflow_executions (
    status, workflow_id, created_at
);

create index idx_wf_exec_trouble on durable_workflow.workflow_executions (created_at)
where trouble is not null and status not in ('COMPLETED', 'FAILED', 'CANCELLED');

create index idx_wf_exec_unqueued on durable_workflow.workflow_executions (status)
where status = 'PENDING'
and available_at is null
and guarantee = 'BEST_EFFORT_BACKGROUND'
and paused_at is null
and paused_with is null;

-- Asks the children of an execution to cancel that are to end with it.
create function durable_workflow.end_children(parent_id text, at timestamptz)
returns void
language plpgsql as $$
begin
    insert into durable_workflow.workflow_signals (
        workflow_execution_id, signal_name, created_at
    )
    select
        child.workflow_execution_id,
        '$cancel',
        at
    from durable_workflow.workflow_executions as child
    where
        child.parent_execution_id = parent_id
        and child.status in ('PENDING', 'RUNNING', 'SUSPENDED')
        and child.on_parent_end = 'cancel'
        and not exists (
            select 1
            from durable_workflow.workflow_signals as asked
            where
                asked.workflow_execution_id = child.workflow_execution_id
                and asked.signal_name = '$cancel'
                and asked.status = 'PENDING'
        )
    for no key update;
end;
$$;

create function durable_workflow.tell_of_a_deleted_execution() returns trigger
language plpgsql as $$
begin
    delete from durable_workflow.workflow_signals
    where
        workflow_execution_id = old.workflow_execution_id
        and (signal_name = '$cancel' or signal_name like '$child:%');

    insert into durable_workflow.workflow_signals (
        workflow_execution_id, signal_name, payload, status, created_at
    )
    select
        parent.workflow_execution_id,
        '$child:' || old.workflow_execution_id,
        '{"status": "DELETED"}',
        case
            when parent.status in ('COMPLETED', 'FAILED', 'CANCELLED') then 'EXPIRED'
            else 'PENDING'
        end,
        clock_timestamp()
    from durable_workflow.workflow_executions as parent
    where parent.workflow_execution_id = old.parent_execution_id;

    perform durable_workflow.end_children(old.workflow_execution_id, clock_timestamp());
    return null;
end;
$$;

create trigger trg_wf_exec_deleted
after delete on durable_workflow.workflow_executions
for each row when (old.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING'))
execute function durable_workflow.tell_of_a_deleted_execution();

create function durable_workflow.tell_the_parent() returns trigger
language plpgsql as $$
begin
    insert into durable_workflow.workflow_signals (
        workflow_execution_id, signal_name, payload, status, created_at
    )
    select
        parent.workflow_execution_id,
        '$child:' || new.workflow_execution_id,
        cast(
            json_build_object(
                'status', new.status,
                'output', cast(coalesce(new.output_data, 'null') as json),
                'error_type', new.error_type,
                'error_message', new.error_message
            ) as text
        ),
        case
            when parent.status in ('COMPLETED', 'FAILED', 'CANCELLED') then 'EXPIRED'
            else 'PENDING'
        end,
        new.updated_at
    from durable_workflow.workflow_executions as parent
    where parent.workflow_execution_id = new.parent_execution_id
    -- Else the parent might end meanwhile, and nobody would expire the signal.
    for no key update;
    return null;
end;
$$;

create trigger trg_wf_exec_ends
after update of status on durable_workflow.workflow_executions
for each row when (
    new.status != old.status
    and new.status in ('COMPLETED', 'FAILED', 'CANCELLED')
    and new.parent_execution_id is not null
)
execute function durable_workflow.tell_the_parent();

create function durable_workflow.tell_the_children() returns trigger
language plpgsql as $$
begin
    perform durable_workflow.end_children(new.workflow_execution_id, new.updated_at);
    return null;
end;
$$;

create trigger trg_wf_exec_ends_children
after update of status on durable_workflow.workflow_executions
for each row when (
    new.status != old.status
    and new.status in ('COMPENSATING', 'COMPLETED', 'FAILED', 'CANCELLED')
)
execute function durable_workflow.tell_the_children();

-- workflow_spreading: the executions whose children do not know yet which pause holds them.

create table durable_workflow.workflow_spreading (
    workflow_execution_id text collate "C" primary key
);

create function durable_workflow.spread_the_pause() returns trigger
language plpgsql as $$
begin
    insert into durable_workflow.workflow_spreading (workflow_execution_id)
    values (old.workflow_execution_id)
    on conflict (workflow_execution_id) do nothing;
    return null;
end;
$$;

create function durable_workflow.holds_children(
    execution durable_workflow.workflow_executions
)
returns text
language sql immutable as $$
    select case
        when execution.status in ('COMPLETED', 'FAILED', 'CANCELLED') then null
        when execution.paused_at is not null then execution.workflow_execution_id
        else execution.paused_with
    end;
$$;

create function durable_workflow.spread_to_children() returns trigger
language plpgsql as $$
begin
    if
        durable_workflow.holds_children(new)
        is distinct from durable_workflow.holds_children(old)
        and exists (
            select 1
            from durable_workflow.workflow_executions as child
            where child.parent_execution_id = new.workflow_execution_id
        )
    then
        insert into durable_workflow.workflow_spreading (workflow_execution_id)
        values (new.workflow_execution_id)
        on conflict (workflow_execution_id) do nothing;
    end if;
    return null;
end;
$$;

create trigger trg_wf_exec_spreads_pause
after update of status, paused_at, paused_with on durable_workflow.workflow_executions
for each row when (
    old.paused_at is not null
    or new.paused_at is not null
    or old.paused_with is not null
    or new.paused_with is not null
)
execute function durable_workflow.spread_to_children();

create trigger trg_wf_exec_deleted_paused
after delete on durable_workflow.workflow_executions
for each row when (
    old.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and (old.paused_at is not null or old.paused_with is not null)
)
execute function durable_workflow.spread_the_pause();

-- It holds the parent, so that nobody pauses it before its new child can be seen.
create function durable_workflow.be_held_with_the_parent() returns trigger
language plpgsql as $$
declare
    holder text;
begin
    select durable_workflow.holds_children(parent)
    into holder
    from durable_workflow.workflow_executions as parent
    where parent.workflow_execution_id = new.parent_execution_id
    for share;

    if tg_op = 'UPDATE' or holder is not null then
        update durable_workflow.workflow_executions
        set
            paused_with = holder,
            available_at = case when tg_op = 'UPDATE' then available_at end
        where
            workflow_execution_id = new.workflow_execution_id
            and (paused_with is distinct from holder or tg_op = 'INSERT');
    end if;
    return null;
end;
$$;

create trigger trg_wf_exec_starts_paused
after insert on durable_workflow.workflow_executions
for each row when (
    new.parent_execution_id is not null
    and new.on_parent_end = 'cancel'
)
execute function durable_workflow.be_held_with_the_parent();

create trigger trg_wf_exec_opens_paused
after update of status on durable_workflow.workflow_executions
for each row when (
    new.parent_execution_id is not null
    and new.on_parent_end = 'cancel'
    and old.status in ('COMPLETED', 'FAILED', 'CANCELLED')
    and new.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
)
execute function durable_workflow.be_held_with_the_parent();

-- step_checkpoints: one attempt of one step, written before and after it runs. Attempt
-- 0 is the compensation of the step, so the step's own row stays as it was.

create table durable_workflow.step_checkpoints (
    id bigint generated by default as identity primary key,
    workflow_execution_id text collate "C" not null,
    branch text collate "C" not null default '',
    step_index bigint not null,
    attempt bigint not null default 1,
    step_name text collate "C" not null,
    kind text collate "C" not null default 'STEP',
    status text not null,
    input_data text,
    output_data text,
    error_type text,
    error_message text,
    idempotency_key text,
    compensate_ref text,
    started_at timestamptz,
    completed_at timestamptz,
    due_at timestamptz,
    event bigint,
    acknowledged_at timestamptz,
    worker_number bigint,
    foreign key (
        workflow_execution_id
    ) references durable_workflow.workflow_executions (workflow_execution_id),
    constraint step_index_is_0_or_more check (step_index >= 0),
    constraint attempt_is_0_or_more check (attempt >= 0),
    constraint kind_is_known check (kind in ('STEP', 'SLEEP', 'SIGNAL')),
    constraint status_is_known
    check (status in ('INTENT', 'COMPLETED', 'FAILED', 'COMPENSATED')),
    constraint input_data_is_json
    check (cast(input_data as json) is not null or input_data is null),
    constraint output_data_is_json
    check (cast(output_data as json) is not null or output_data is null),
    constraint event_is_1_or_more check (event >= 1)
) with (fillfactor = 50);

create index idx_step_cp_again on durable_workflow.step_checkpoints (
    due_at, workflow_execution_id
)
where status = 'FAILED' and kind = 'STEP' and due_at is not null;

create index idx_step_cp_awaited on durable_workflow.step_checkpoints (
    workflow_execution_id, step_name
)
where kind = 'SIGNAL' and status = 'INTENT';

create index idx_step_cp_cut_off on durable_workflow.step_checkpoints (
    workflow_execution_id
)
where status = 'FAILED' and error_type in (
    'asyncio.exceptions:CancelledError',
    'durable_workflow_sqlite.errors:StepTimeoutError'
) and due_at is null and acknowledged_at is
null;

create unique index idx_step_cp_exec on durable_workflow.step_checkpoints (
    workflow_execution_id, branch, step_index,
    attempt
);

create index idx_step_cp_not_undone on durable_workflow.step_checkpoints (
    workflow_execution_id
)
where attempt < 1 and status = 'FAILED';

create function durable_workflow.block_for_a_deleted_step() returns trigger
language plpgsql as $$
begin
    update durable_workflow.workflow_executions
    set
        blocked_reason
        = case
            when blocked_reason like 'rows of step_checkpoints were deleted by hand: %'
                then blocked_reason || ', '
            else 'rows of step_checkpoints were deleted by hand: '
        end
        || case
            when length(blocked_reason) < 1000 or blocked_reason is null
                then
                    lower(old.kind) || ' ''' || old.step_name || ''' (index '
                    || old.step_index
                    || case
                        when old.branch = '' then ''
                        else ' of branch ''' || old.branch || ''''
                    end
                    || ', attempt ' || old.attempt || ')'
            else 'others'
        end,
        available_at = null,
        updated_at = greatest(updated_at, clock_timestamp())
    where
        workflow_execution_id = old.workflow_execution_id
        and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
        and (
            blocked_reason is null
            or blocked_reason
            not like 'rows of step_checkpoints were deleted by hand: %, others'
        );
    return null;
end;
$$;

create trigger trg_step_cp_deleted
after delete on durable_workflow.step_checkpoints
for each row execute function durable_workflow.block_for_a_deleted_step();

-- workflow_timers: a durable deadline, of a sleep or of a wait for a signal.

create table durable_workflow.workflow_timers (
    workflow_timer_id text collate "C" primary key,
    workflow_execution_id text collate "C" not null,
    step_name text collate "C" not null,
    fire_at timestamptz not null,
    status text not null default 'PENDING',
    created_at timestamptz not null default now(),
    foreign key (
        workflow_execution_id
    ) references durable_workflow.workflow_executions (workflow_execution_id),
    constraint status_is_known check (status in ('PENDING', 'FIRED', 'CANCELLED'))
);

create index idx_wf_timer_exec on durable_workflow.workflow_timers (
    workflow_execution_id
);

create index idx_wf_timer_fire on durable_workflow.workflow_timers (status, fire_at);

-- workflow_signals: a message to an execution, by name.

create table durable_workflow.workflow_signals (
    workflow_signal_id bigint generated by default as identity primary key,
    workflow_execution_id text collate "C" not null,
    signal_name text collate "C" not null,
    payload text,
    status text not null default 'PENDING',
    created_at timestamptz not null default now(),
    refused_reason text,
    signal_key text collate "C",
    foreign key (
        workflow_execution_id
    ) references durable_workflow.workflow_executions (workflow_execution_id),
    constraint signal_name_is_not_empty check (signal_name != ''),
    constraint payload_is_json check (
        cast(payload as json) is not null or payload is null
    ),
    constraint status_is_known
    check (status in ('PENDING', 'DELIVERED', 'EXPIRED', 'REFUSED')),
    constraint signal_key_is_not_empty check (signal_key != '')
);

create unique index idx_wf_signal_key on durable_workflow.workflow_signals (
    workflow_execution_id, signal_key
)
where signal_key is not null;

create index idx_wf_signal_old on durable_workflow.workflow_signals (created_at)
where status in ('DELIVERED', 'EXPIRED', 'REFUSED');

create index idx_wf_signal_pending on durable_workflow.workflow_signals (
    workflow_execution_id, status, signal_name
);

-- It locks the execution before it looks: a worker that releases it at the same time does
-- so, too (trg_wf_claim_deleted), and one of the two sees what the other has written.
create function durable_workflow.wake_for_a_signal() returns trigger
language plpgsql as $$
begin
    perform 1
    from durable_workflow.workflow_executions
    where workflow_execution_id = new.workflow_execution_id
    for no key update;

    update durable_workflow.workflow_executions
    set available_at = least(new.created_at, clock_timestamp())
    where
        workflow_execution_id = new.workflow_execution_id
        and guarantee = 'BEST_EFFORT_BACKGROUND'
        and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
        and blocked_reason is null
        and paused_at is null
        and paused_with is null
        and (
            available_at is null
            or available_at > least(new.created_at, clock_timestamp())
        )
        and (
            status != 'PENDING'
            or available_at is null
            or new.signal_name = '$cancel'
        )
        and not exists (
            select 1
            from durable_workflow.workflow_claims
            where workflow_claims.workflow_execution_id = new.workflow_execution_id
        )
        and (
            status != 'SUSPENDED'
            or (new.signal_name like '$%' and new.signal_name not like '$child:%')
            or exists (
                select 1
                from durable_workflow.step_checkpoints as awaited
                where
                    awaited.workflow_execution_id = new.workflow_execution_id
                    and awaited.step_name = new.signal_name
                    and awaited.kind = 'SIGNAL'
                    and awaited.status = 'INTENT'
            )
        );
    return null;
end;
$$;

create trigger trg_wf_signal_wakes
after insert on durable_workflow.workflow_signals
for each row when (new.status = 'PENDING')
execute function durable_workflow.wake_for_a_signal();

-- workflow_tags: the tags of an execution, given when it was started, to find it by.

create table durable_workflow.workflow_tags (
    workflow_execution_id text collate "C" not null,
    name text collate "C" not null,
    value text not null,
    foreign key (
        workflow_execution_id
    ) references durable_workflow.workflow_executions (workflow_execution_id),
    primary key (workflow_execution_id, name),
    constraint name_is_not_empty check (name != '')
);

create index idx_wf_tag on durable_workflow.workflow_tags (
    name, value, workflow_execution_id
);

-- workflow_audit_log: what people did, except signals: to an execution, or to what scope
-- and name say.

create table durable_workflow.workflow_audit_log (
    workflow_audit_id bigint generated by default as identity primary key,
    workflow_execution_id text collate "C",
    act text not null,
    actor text not null,
    details text,
    created_at timestamptz not null default now(),
    scope text collate "C" not null default 'EXECUTION',
    name text collate "C",
    foreign key (
        workflow_execution_id
    ) references durable_workflow.workflow_executions (workflow_execution_id),
    constraint act_is_not_empty check (act != ''),
    constraint actor_is_not_empty check (actor != ''),
    constraint details_is_json check (
        cast(details as json) is not null or details is null
    ),
    constraint scope_is_known check (
        scope = 'EXECUTION' or scope = 'WORKFLOW' or scope = 'QUEUE' or scope = 'STEP'
        or scope = 'SCHEDULE' or scope = 'ALL'
    ),
    constraint either_an_execution_or_a_name check (
        (scope = 'EXECUTION') = (workflow_execution_id is not null)
        and (scope = 'EXECUTION') = (name is null)
    ),
    constraint only_everything_has_no_name check ((name = '') = (scope = 'ALL'))
);

create index idx_wf_audit_exec on durable_workflow.workflow_audit_log (
    workflow_execution_id
);

create index idx_wf_audit_named on durable_workflow.workflow_audit_log (scope, name)
where name is not null;

-- workflow_limits: how much runs at once, over all workers. Code declares it with
-- engine.declare; people change it.

create table durable_workflow.workflow_limits (
    kind text collate "C" not null,
    name text collate "C" not null,
    concurrency bigint,
    per_worker bigint,
    per_key bigint,
    declared text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    rate bigint,
    rate_seconds double precision,
    key_rate bigint,
    key_rate_seconds double precision,
    primary key (kind, name),
    constraint rate_is_1_or_more check (rate >= 1),
    constraint rate_seconds_are_more_than_0 check (rate_seconds > 0),
    constraint key_rate_is_1_or_more check (key_rate >= 1),
    constraint key_rate_seconds_are_more_than_0 check (key_rate_seconds > 0),
    constraint kind_is_known check (kind in ('QUEUE', 'STEP')),
    constraint name_is_not_empty check (name != ''),
    constraint concurrency_is_1_or_more check (concurrency >= 1),
    constraint per_worker_is_1_or_more check (per_worker >= 1),
    constraint per_key_is_1_or_more check (per_key >= 1),
    constraint declared_is_json check (
        cast(declared as json) is not null or declared is null
    )
);

-- workflow_pauses: what is paused as a whole. No worker claims what a row holds; new
-- executions of it wait, too. To delete a row is to resume.

create table durable_workflow.workflow_pauses (
    scope text collate "C" not null,
    name text collate "C" not null,
    paused_at timestamptz not null default now(),
    paused_by text not null,
    paused_reason text,
    primary key (scope, name),
    constraint scope_is_known check (scope in ('WORKFLOW', 'QUEUE', 'ALL')),
    constraint name_is_that_of_a_workflow_or_queue check ((name = '') = (scope = 'ALL'))
);

-- workflow_limit_uses: what has begun under a limit with a rate, within its time.

create table durable_workflow.workflow_limit_uses (
    workflow_limit_use_id bigint generated by default as identity primary key,
    kind text collate "C" not null,
    name text collate "C" not null,
    limit_key text collate "C",
    used_at timestamptz not null
);

create index idx_wf_limit_use on durable_workflow.workflow_limit_uses (
    kind, name, used_at
);

create index idx_wf_limit_use_key on durable_workflow.workflow_limit_uses (
    kind, name, limit_key, used_at
)
where limit_key is not null;

-- workflow_step_slots: the steps that run under a limit of kind STEP. A row counts as
-- long as its claim is in workflow_claims.

create table durable_workflow.workflow_step_slots (
    name text collate "C" not null,
    fencing_token bigint not null,
    branch text collate "C" not null,
    step_index bigint not null,
    workflow_execution_id text collate "C" not null,
    limit_key text collate "C",
    taken_at timestamptz not null,
    primary key (name, fencing_token, branch, step_index)
);

-- workflow_claims: which worker has an execution. Its release deletes the row.

create table durable_workflow.workflow_claims (
    fencing_token bigint generated by default as identity primary key,
    workflow_execution_id text collate "C" not null unique,
    worker_id text collate "C" not null,
    claimed_at timestamptz not null,
    is_stopping boolean not null default false,
    queue text collate "C",
    queue_key text collate "C",
    foreign key (
        workflow_execution_id
    ) references durable_workflow.workflow_executions (workflow_execution_id)
) with (fillfactor = 70);

create index idx_wf_claim_queue on durable_workflow.workflow_claims (queue, queue_key)
where queue is not null;

create index idx_wf_claim_worker on durable_workflow.workflow_claims (worker_id);

-- Who deletes a claim looks next whether the execution has something to do. Until then
-- no signal may come that neither of the two sees: see wake_for_a_signal.
create function durable_workflow.hold_the_execution() returns trigger
language plpgsql as $$
begin
    perform 1
    from durable_workflow.workflow_executions
    where workflow_execution_id = old.workflow_execution_id
    for no key update;
    return null;
end;
$$;

create trigger trg_wf_claim_deleted
after delete on durable_workflow.workflow_claims
for each row execute function durable_workflow.hold_the_execution();

-- workflow_workers: who has worked here. A worker is one store of one process.
-- A program that only reads, signals or enqueues has no row. No row says whether a
-- worker lives: it does while a session of it holds an advisory lock of its worker_id.

create table durable_workflow.workflow_workers (
    worker_number bigint generated by default as identity primary key,
    worker_id text collate "C" not null unique,
    host text not null,
    process_id bigint not null,
    program text not null,
    started_at timestamptz not null default now(),
    max_concurrent bigint,
    seen_dead_at timestamptz,
    constraint max_concurrent_is_1_or_more check (max_concurrent >= 1)
);

create index idx_wf_worker_seen_dead on durable_workflow.workflow_workers (
    seen_dead_at
);

-- workflow_worker_workflows: which workflows a worker runs.

create table durable_workflow.workflow_worker_workflows (
    worker_number bigint not null,
    workflow_type text collate "C" not null,
    version bigint not null,
    foreign key (worker_number) references durable_workflow.workflow_workers (
        worker_number
    ),
    primary key (worker_number, workflow_type, version)
);

-- workflow_worker_queues: which named queues a worker serves. One that has no row here
-- serves all of them, and what is in none.

create table durable_workflow.workflow_worker_queues (
    worker_number bigint not null,
    queue text collate "C" not null,
    foreign key (worker_number) references durable_workflow.workflow_workers (
        worker_number
    ),
    primary key (worker_number, queue)
);

-- workflow_schedules: when executions of a workflow are started by themselves.

create table durable_workflow.workflow_schedules (
    schedule_name text collate "C" primary key,
    workflow_type text collate "C" not null,
    version bigint not null default 1,
    input_data text not null default '[]',
    cron text,
    tz text not null default 'UTC',
    every_seconds bigint,
    overlap text not null default 'skip',
    missed text not null default 'last',
    within_seconds bigint,
    jitter_seconds bigint not null default 0,
    ends_at timestamptz,
    priority bigint not null default 0,
    ttl_seconds bigint,
    tags text not null default '{}',
    next_fire_at timestamptz,
    last_fired_at timestamptz,
    last_execution_id text collate "C",
    last_skipped_at timestamptz,
    buffered_at timestamptz,
    paused_at timestamptz,
    paused_by text,
    paused_reason text,
    ended_at timestamptz,
    trouble text,
    declared text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    queue text collate "C",
    queue_key text collate "C",
    constraint schedule_name_is_not_empty check (schedule_name != ''),
    constraint workflow_type_is_not_empty check (workflow_type != ''),
    constraint version_is_1_or_more check (version >= 1),
    constraint input_data_is_a_list check (
        json_typeof(cast(input_data as json)) = 'array'
    ),
    constraint every_seconds_is_an_interval check (
        every_seconds between 1 and 3162240000
    ),
    constraint overlap_is_known
    check (overlap in ('skip', 'buffer_one', 'cancel_other', 'all')),
    constraint missed_is_known check (missed in ('skip', 'last', 'all')),
    constraint within_seconds_is_a_time check (within_seconds between 1 and 3162240000),
    constraint jitter_seconds_is_a_time check (jitter_seconds between 0 and 3162240000),
    constraint ttl_seconds_is_a_time check (ttl_seconds between 1 and 3162240000),
    constraint tags_is_an_object check (
        json_typeof(cast(tags as json)) = 'object'
    ),
    constraint declared_is_json check (
        cast(declared as json) is not null or declared is null
    ),
    constraint queue_key_has_a_queue check (queue_key is null or queue is not null),
    constraint schedule_has_cron_or_every check (
        (cron is null) != (every_seconds is null)
    )
);

create index idx_wf_schedule_buffered on durable_workflow.workflow_schedules (
    schedule_name
)
where buffered_at is not null and paused_at is null and trouble is null;

create index idx_wf_schedule_due on durable_workflow.workflow_schedules (
    coalesce(next_fire_at, '-infinity')
)
where paused_at is null and ended_at is null and trouble is null;

create function durable_workflow.compute_the_next_time_anew() returns trigger
language plpgsql as $$
begin
    new.next_fire_at = null;
    new.ended_at = null;
    new.trouble = null;
    return new;
end;
$$;

-- Before the update, where SQLite has it after: so the row is written once.
create trigger trg_wf_schedule_edited
before update of cron, tz, every_seconds, ends_at, paused_at
on durable_workflow.workflow_schedules
for each row when (
    new.next_fire_at is not distinct from old.next_fire_at
    and (
        new.cron is distinct from old.cron
        or new.tz is distinct from old.tz
        or new.every_seconds is distinct from old.every_seconds
        or new.ends_at is distinct from old.ends_at
        or (old.paused_at is not null and new.paused_at is null)
    )
)
execute function durable_workflow.compute_the_next_time_anew();
