-- An execution is one run of a workflow. COMPLETED, FAILED and CANCELLED are final: only
-- mend_execution changes the status of a row that has one.
--
-- One that no worker has claimed is in a queue from available_at on: in the queue that it
-- names, or else in that of its workflow and priority.
--
-- Statements that take a :fencing_token change nothing unless it is the token of
-- the execution's claim; null stands for a write made under no claim.

-- name: upsert_execution!
-- Saves an execution; one that is there already is updated, unless it is final.
-- Changing no row means that it is final, or that the claim is lost.
-- :fencing_token integer null
insert into workflow_executions (
    workflow_execution_id,
    workflow_id,
    status,
    current_step,
    input_data,
    output_data,
    error_type,
    error_message,
    ttl_expires_at,
    guarantee,
    priority,
    queue,
    queue_key,
    dedup_id,
    debounced,
    recovery_count,
    blocked_reason,
    trouble,
    available_at,
    last_event,
    started_at,
    parent_execution_id,
    root_execution_id,
    on_parent_end,
    run_number,
    forked_from,
    forked_before,
    replay_origin,
    created_at,
    updated_at,
    status_since,
    trouble_since,
    paused_at,
    paused_by,
    paused_reason,
    paused_with
)
select
    :workflow_execution_id,
    :workflow_id,
    :status,
    :current_step,
    :input_data,
    :output_data,
    :error_type,
    :error_message,
    :ttl_expires_at,
    :guarantee,
    :priority,
    :queue,
    :queue_key,
    :dedup_id,
    :debounced,
    :recovery_count,
    :blocked_reason,
    :trouble,
    :available_at,
    :last_event,
    :started_at,
    :parent_execution_id,
    :root_execution_id,
    :on_parent_end,
    :run_number,
    :forked_from,
    :forked_before,
    :replay_origin,
    :created_at,
    :updated_at,
    :updated_at,
    iif(:trouble is null, null, :updated_at),
    :paused_at,
    :paused_by,
    :paused_reason,
    :paused_with
where
    :fencing_token is null
    or exists (
        select 1
        from workflow_claims
        where
            fencing_token = :fencing_token
            and workflow_execution_id = :workflow_execution_id
    )
on conflict (workflow_execution_id) do update set
    workflow_id = excluded.workflow_id,
    status = excluded.status,
    current_step = excluded.current_step,
    input_data = excluded.input_data,
    output_data = excluded.output_data,
    error_type = excluded.error_type,
    error_message = excluded.error_message,
    ttl_expires_at = excluded.ttl_expires_at,
    guarantee = excluded.guarantee,
    priority = excluded.priority,
    queue = excluded.queue,
    queue_key = excluded.queue_key,
    dedup_id = excluded.dedup_id,
    debounced = excluded.debounced,
    recovery_count = excluded.recovery_count,
    blocked_reason = excluded.blocked_reason,
    trouble = excluded.trouble,
    available_at = excluded.available_at,
    last_event = excluded.last_event,
    started_at = excluded.started_at,
    parent_execution_id = excluded.parent_execution_id,
    root_execution_id = excluded.root_execution_id,
    on_parent_end = excluded.on_parent_end,
    run_number = excluded.run_number,
    forked_from = excluded.forked_from,
    forked_before = excluded.forked_before,
    replay_origin = excluded.replay_origin,
    created_at = excluded.created_at,
    updated_at = excluded.updated_at,
    status_since = iif(
        workflow_executions.status = excluded.status,
        workflow_executions.status_since,
        excluded.updated_at
    ),
    trouble_since = case
        when excluded.trouble is null then null
        when excluded.trouble != workflow_executions.trouble then excluded.updated_at
        else coalesce(workflow_executions.trouble_since, excluded.updated_at)
    end,
    paused_at = excluded.paused_at,
    paused_by = excluded.paused_by,
    paused_reason = excluded.paused_reason,
    paused_with = excluded.paused_with
where workflow_executions.status not in ('COMPLETED', 'FAILED', 'CANCELLED');

-- name: insert_execution_if_absent!
-- Starts an execution; changing no row means that the id is taken.
-- @unfenced: nobody has it yet
insert into workflow_executions (
    workflow_execution_id,
    workflow_id,
    status,
    current_step,
    input_data,
    output_data,
    error_type,
    error_message,
    ttl_expires_at,
    guarantee,
    priority,
    queue,
    queue_key,
    dedup_id,
    debounced,
    recovery_count,
    blocked_reason,
    available_at,
    last_event,
    started_at,
    parent_execution_id,
    root_execution_id,
    on_parent_end,
    run_number,
    forked_from,
    forked_before,
    replay_origin,
    created_at,
    updated_at,
    status_since
)
values (
    :workflow_execution_id,
    :workflow_id,
    :status,
    :current_step,
    :input_data,
    :output_data,
    :error_type,
    :error_message,
    :ttl_expires_at,
    :guarantee,
    :priority,
    :queue,
    :queue_key,
    :dedup_id,
    :debounced,
    :recovery_count,
    :blocked_reason,
    :available_at,
    :last_event,
    :started_at,
    :parent_execution_id,
    :root_execution_id,
    :on_parent_end,
    :run_number,
    :forked_from,
    :forked_before,
    :replay_origin,
    :created_at,
    :updated_at,
    :updated_at
)
on conflict (workflow_execution_id) do nothing;

-- name: load_execution^
-- One execution by its id.
select
    workflow_execution_id,
    workflow_id,
    status,
    current_step,
    input_data,
    output_data,
    error_type,
    error_message,
    ttl_expires_at,
    guarantee,
    priority,
    queue,
    queue_key,
    dedup_id,
    debounced,
    recovery_count,
    blocked_reason,
    trouble,
    available_at,
    last_event,
    started_at,
    parent_execution_id,
    root_execution_id,
    on_parent_end,
    run_number,
    forked_from,
    forked_before,
    replay_origin,
    created_at,
    updated_at,
    paused_at,
    paused_by,
    paused_reason,
    paused_with
from workflow_executions
where workflow_execution_id = :workflow_execution_id;

-- name: take_execution^
-- One execution by its id, for the worker that has claimed it: also whether timers
-- of it are pending, whether a signal asks it to cancel, and whether it has passed
-- patches.
-- :cancel_signal text
-- =has_timers integer
-- =is_to_cancel integer
-- =has_patches integer
select
    execution.workflow_execution_id,
    execution.workflow_id,
    execution.status,
    execution.current_step,
    execution.input_data,
    execution.output_data,
    execution.error_type,
    execution.error_message,
    execution.ttl_expires_at,
    execution.guarantee,
    execution.priority,
    execution.queue,
    execution.queue_key,
    execution.dedup_id,
    execution.debounced,
    execution.recovery_count,
    execution.blocked_reason,
    execution.trouble,
    execution.available_at,
    execution.last_event,
    execution.started_at,
    execution.parent_execution_id,
    execution.root_execution_id,
    execution.on_parent_end,
    execution.run_number,
    execution.forked_from,
    execution.forked_before,
    execution.replay_origin,
    execution.created_at,
    execution.updated_at,
    execution.paused_at,
    execution.paused_by,
    execution.paused_reason,
    execution.paused_with,
    exists(
        select 1
        from workflow_timers as timer
        where
            timer.workflow_execution_id = execution.workflow_execution_id
            and timer.status = 'PENDING'
    ) as has_timers,
    exists(
        select 1
        from workflow_signals as signal
        where
            signal.workflow_execution_id = execution.workflow_execution_id
            and signal.signal_name = :cancel_signal
            and signal.status = 'PENDING'
    ) as is_to_cancel,
    exists(
        select 1
        from workflow_patches as patch
        where patch.workflow_execution_id = execution.workflow_execution_id
    ) as has_patches
from workflow_executions as execution
where execution.workflow_execution_id = :workflow_execution_id;

-- name: load_pending^
-- Whether timers of an execution are pending, whether signals are, and whether it is
-- paused, itself or with its parent.
-- =has_timers integer
-- =has_signals integer
-- =is_paused integer
select
    exists(
        select 1
        from workflow_timers as timer
        where
            timer.workflow_execution_id = execution.workflow_execution_id
            and timer.status = 'PENDING'
    ) as has_timers,
    exists(
        select 1
        from workflow_signals as signal
        where
            signal.workflow_execution_id = execution.workflow_execution_id
            and signal.status = 'PENDING'
    ) as has_signals,
    execution.paused_at is not null or execution.paused_with is not null as is_paused
from workflow_executions as execution
where execution.workflow_execution_id = :workflow_execution_id;

-- name: load_executions_by_status
-- The executions in any of the given statuses (a JSON array), oldest first.
-- @scan workflow_executions: a caller that asks for finished ones asks for most
-- @sort: as many as it gives
-- :statuses text
select
    workflow_execution_id,
    workflow_id,
    status,
    current_step,
    input_data,
    output_data,
    error_type,
    error_message,
    ttl_expires_at,
    guarantee,
    priority,
    queue,
    queue_key,
    dedup_id,
    debounced,
    recovery_count,
    blocked_reason,
    trouble,
    available_at,
    last_event,
    started_at,
    parent_execution_id,
    root_execution_id,
    on_parent_end,
    run_number,
    forked_from,
    forked_before,
    replay_origin,
    created_at,
    updated_at,
    paused_at,
    paused_by,
    paused_reason,
    paused_with
from workflow_executions
where status in (select value from json_each(:statuses))
order by created_at, workflow_execution_id;

-- name: update_execution!
-- Saves how far an execution has come, for the worker that has claimed it. What it
-- was started with stays: an input may be large, and is written once. So does why it is
-- blocked, until it is over: somebody has deleted a step of it meanwhile. And so does
-- its pause, which somebody may have begun meanwhile; it ends with the execution.
-- Changing no row means that it is final, or that the claim is lost.
update workflow_executions
set
    status = :status,
    current_step = :current_step,
    output_data = :output_data,
    error_type = :error_type,
    error_message = :error_message,
    recovery_count = :recovery_count,
    blocked_reason = iif(
        :status = 'COMPLETED' or :status = 'FAILED' or :status = 'CANCELLED',
        :blocked_reason,
        coalesce(:blocked_reason, blocked_reason)
    ),
    last_event = :last_event,
    updated_at = :updated_at,
    status_since = iif(status = :status, status_since, :updated_at),
    trouble_since = null
where
    workflow_execution_id = :workflow_execution_id
    and status != 'COMPLETED'
    and status != 'FAILED'
    and status != 'CANCELLED'
    and exists (
        select 1
        from workflow_claims
        where
            fencing_token = :fencing_token
            and workflow_execution_id = :workflow_execution_id
    );

-- name: note_progress!
-- Saves how far an execution has come that is RUNNING, and stays so: what its worker
-- died of before was not forever. Without a column of the status, no trigger is asked.
-- Changing no row means that more is to be saved, or that the claim is lost.
update workflow_executions
set
    current_step = :current_step,
    recovery_count = :recovery_count,
    updated_at = :updated_at,
    trouble_since = null
where
    workflow_execution_id = :workflow_execution_id
    and status = 'RUNNING'
    and output_data is null
    and error_type is null
    and error_message is null
    and last_event is null
    and exists (
        select 1
        from workflow_claims
        where
            fencing_token = :fencing_token
            and workflow_execution_id = :workflow_execution_id
    );

-- name: begin_again!
-- An execution begins again with another input, for the worker that has claimed it. Its
-- signals stay, except the ends of children of the run before, which nobody awaits.
-- Changing no row means that it is final, or that the claim is lost.
update workflow_executions
set
    status = 'RUNNING',
    current_step = 0,
    input_data = :input_data,
    error_type = null,
    error_message = null,
    recovery_count = 0,
    blocked_reason = null,
    last_event = null,
    started_at = :updated_at,
    run_number = :run_number,
    replay_origin = null,
    updated_at = :updated_at,
    status_since = iif(status = 'RUNNING', status_since, :updated_at),
    trouble_since = null
where
    workflow_execution_id = :workflow_execution_id
    and status in ('PENDING', 'RUNNING', 'SUSPENDED')
    and exists (
        select 1
        from workflow_claims
        where
            fencing_token = :fencing_token
            and workflow_execution_id = :workflow_execution_id
    );

-- name: take_from_queue!
-- A worker has claimed an execution: it runs now, and is not in the queue or in trouble
-- any more.
-- @unfenced: in the transaction of the claim
update workflow_executions
set
    status = iif(status = 'COMPENSATING', status, 'RUNNING'),
    trouble = null,
    available_at = null,
    started_at = coalesce(started_at, :updated_at),
    updated_at = :updated_at,
    status_since = iif(
        status in ('RUNNING', 'COMPENSATING'), status_since, :updated_at
    )
where
    workflow_execution_id = :workflow_execution_id
    and status != 'COMPLETED'
    and status != 'FAILED'
    and status != 'CANCELLED';

-- name: take_up_again!
-- As take_from_queue, of an execution that is RUNNING or COMPENSATING, and stays so.
-- @unfenced: in the transaction of the claim
update workflow_executions
set
    trouble = null,
    available_at = null,
    started_at = coalesce(started_at, :updated_at),
    updated_at = :updated_at
where
    workflow_execution_id = :workflow_execution_id
    and status in ('RUNNING', 'COMPENSATING');

-- name: put_into_queue!
-- No worker has these executions any more (a JSON array of ids): says from when on each
-- may be claimed, unless it is paused. One that only waits has nothing to do before its
-- earliest timer, the end of its time to live, or a signal: one that it waits for, or
-- one of the library's own. For a signal that comes later, trg_wf_signal_wakes does
-- this. Without a timer, a wait or a question, somebody has deleted the timer, and a
-- worker is to record it again. The + keeps SQLite from two detours: to look for the
-- earliest timer in the index of all timers, and for the executions among all that are
-- unfinished.
-- @unfenced: no worker has them
-- :workflow_execution_ids text
-- :now text
update workflow_executions
set
    available_at = iif(
        status != 'SUSPENDED'
        or exists (
            select 1
            from step_checkpoints as awaited
            where
                awaited.workflow_execution_id
                = workflow_executions.workflow_execution_id
                and awaited.kind = 'SIGNAL'
                and awaited.status = 'INTENT'
                and exists (
                    select 1
                    from workflow_signals
                    where
                        workflow_signals.workflow_execution_id
                        = awaited.workflow_execution_id
                        and workflow_signals.status = 'PENDING'
                        and workflow_signals.signal_name = awaited.step_name
                )
        )
        or exists (
            select 1
            from workflow_signals
            where
                workflow_signals.workflow_execution_id
                = workflow_executions.workflow_execution_id
                and workflow_signals.status = 'PENDING'
                and workflow_signals.signal_name glob '$*'
                and workflow_signals.signal_name not glob '$child:*'
                and workflow_signals.signal_name not glob '$answer:*'
        ),
        :now,
        (
            select min(due_at)
            from (
                select +workflow_timers.fire_at as due_at
                from workflow_timers
                where
                    workflow_timers.workflow_execution_id
                    = workflow_executions.workflow_execution_id
                    and workflow_timers.status = 'PENDING'
                union all
                -- Somebody may have deleted its timer by hand.
                select +waiting.due_at as due_at
                from step_checkpoints as waiting
                where
                    waiting.workflow_execution_id
                    = workflow_executions.workflow_execution_id
                    and waiting.kind = 'SIGNAL'
                    and waiting.status = 'INTENT'
                union all
                select +waiting.due_at as due_at
                from step_checkpoints as waiting
                where
                    waiting.workflow_execution_id
                    = workflow_executions.workflow_execution_id
                    and waiting.kind = 'SLEEP'
                    and waiting.status = 'INTENT'
                union all
                select :now as due_at
                where
                    not exists (
                        select 1
                        from workflow_timers
                        where
                            workflow_timers.workflow_execution_id
                            = workflow_executions.workflow_execution_id
                            and workflow_timers.status = 'PENDING'
                    )
                    and not exists (
                        select 1
                        from step_checkpoints as waiting
                        where
                            waiting.workflow_execution_id
                            = workflow_executions.workflow_execution_id
                            and waiting.kind = 'SIGNAL'
                            and waiting.status = 'INTENT'
                    )
                    and not exists (
                        select 1
                        from step_checkpoints as waiting
                        where
                            waiting.workflow_execution_id
                            = workflow_executions.workflow_execution_id
                            and waiting.kind = 'SLEEP'
                            and waiting.status = 'INTENT'
                    )
                    and not exists (
                        select 1
                        from step_checkpoints as asked
                        where
                            asked.workflow_execution_id
                            = workflow_executions.workflow_execution_id
                            and asked.error_type
                            = 'durable_workflow_sqlite.errors:StepAmbiguousError'
                            and asked.status = 'INTENT'
                    )
                union all
                select workflow_executions.ttl_expires_at as due_at
            ) as deadlines
            -- A text that somebody wrote by hand, and that is not a time, does not count.
            where due_at glob '????-??-??T??:??:??.??????Z'
        )
    )
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids))
    and guarantee = 'BEST_EFFORT_BACKGROUND'
    and +status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and blocked_reason is null
    and paused_at is null
    and paused_with is null;

-- name: note_trouble!
-- A worker leaves an execution as it is, and says why. trouble_since stays until the
-- execution makes progress (update_execution) or is over, or the reason is another one
-- than when the worker claimed it (null: it was not in trouble, or nobody knows).
-- @unfenced: in the transaction that releases the claim
-- :trouble text
-- :former_trouble text null
update workflow_executions
set
    trouble = :trouble,
    trouble_since = iif(
        coalesce(:former_trouble, :trouble) = :trouble,
        coalesce(trouble_since, :updated_at),
        :updated_at
    ),
    updated_at = :updated_at
where
    workflow_execution_id = :workflow_execution_id
    and status not in ('COMPLETED', 'FAILED', 'CANCELLED');

-- name: load_queue_heads
-- Of what is in no named queue: for each workflow and priority, the time at which its
-- first execution may be claimed, the highest priority first. It hops from one to the
-- next, so it costs the same however many executions are in them. Those of a
-- workflow that is paused are left out.
-- =workflow_id text
-- =workflow_type text
-- =version integer
-- =priority integer
-- =available_at text
with recursive queues (workflow_id, priority) as (
    select
        workflows.workflow_id,
        (
            select max(workflow_executions.priority)
            from workflow_executions
            where
                workflow_executions.workflow_id = workflows.workflow_id
                and workflow_executions.available_at is not null
                and workflow_executions.queue is null
        ) as priority
    from workflows
    where
        not exists (
            select 1
            from workflow_pauses
            where
                (
                    workflow_pauses.scope = 'WORKFLOW'
                    and workflow_pauses.name = workflows.workflow_type
                )
                or workflow_pauses.scope = 'ALL'
        )
    union all
    select
        queues.workflow_id,
        (
            select max(workflow_executions.priority)
            from workflow_executions
            where
                workflow_executions.workflow_id = queues.workflow_id
                and workflow_executions.available_at is not null
                and workflow_executions.queue is null
                and workflow_executions.priority < queues.priority
        ) as priority
    from queues
    where queues.priority is not null
)

select
    queues.workflow_id,
    workflows.workflow_type,
    workflows.version,
    queues.priority,
    (
        select min(workflow_executions.available_at)
        from workflow_executions
        where
            workflow_executions.workflow_id = queues.workflow_id
            and workflow_executions.priority = queues.priority
            and workflow_executions.available_at is not null
            and workflow_executions.queue is null
    ) as available_at
from queues
inner join workflows
    on queues.workflow_id = workflows.workflow_id
where queues.priority is not null;

-- name: load_available
-- The next executions of a queue without a name that may be claimed, the longest
-- waiting first. Some are passed over (a JSON array of ids), and so are suspects,
-- unless :with_suspects is 1. Workers that had claimed a suspect died so often that it
-- may be the cause.
-- :now text
-- :passed_over text
-- :suspect_at integer
-- :with_suspects integer
-- :batch_size integer
-- =available_at text
-- =is_suspect integer
select
    workflow_execution_id,
    available_at,
    recovery_count >= :suspect_at as is_suspect
from workflow_executions
where
    workflow_id = :workflow_id
    and priority = :priority
    and queue is null
    and available_at <= :now
    and paused_at is null
    and paused_with is null
    and workflow_execution_id not in (select value from json_each(:passed_over))
    and (:with_suspects or recovery_count < :suspect_at)
order by available_at
limit :batch_size;

-- name: load_waiting_queues
-- The named queues in which an execution waits for a worker, each with its limits. It
-- hops from one queue to the next, so it costs the same however many executions are in
-- them. A queue that is paused is left out.
-- =name text
with recursive waiting (queue) as (
    select min(workflow_executions.queue)
    from workflow_executions
    where
        workflow_executions.available_at is not null
        and workflow_executions.queue is not null
    union all
    select (
        select min(workflow_executions.queue)
        from workflow_executions
        where
            workflow_executions.available_at is not null
            and workflow_executions.queue > waiting.queue
    )
    from waiting
    where waiting.queue is not null
)

select
    waiting.queue as name,
    workflow_limits.concurrency,
    workflow_limits.per_worker,
    workflow_limits.per_key,
    workflow_limits.rate,
    workflow_limits.rate_seconds,
    workflow_limits.key_rate,
    workflow_limits.key_rate_seconds
from waiting
left join workflow_limits
    on
        workflow_limits.kind = 'QUEUE'
        and waiting.queue = workflow_limits.name
where
    waiting.queue is not null
    and not exists (
        select 1
        from workflow_pauses
        where
            workflow_pauses.scope = 'QUEUE'
            and workflow_pauses.name = waiting.queue
    );

-- name: load_heads_of_queue
-- As load_queue_heads, of the executions in one named queue.
-- =workflow_id text
-- =workflow_type text
-- =version integer
-- =priority integer
-- =available_at text
with recursive queues (workflow_id, priority) as (
    select
        workflows.workflow_id,
        (
            select max(workflow_executions.priority)
            from workflow_executions
            where
                workflow_executions.queue = :queue
                and workflow_executions.workflow_id = workflows.workflow_id
                and workflow_executions.available_at is not null
        ) as priority
    from workflows
    where
        not exists (
            select 1
            from workflow_pauses
            where
                (
                    workflow_pauses.scope = 'WORKFLOW'
                    and workflow_pauses.name = workflows.workflow_type
                )
                or workflow_pauses.scope = 'ALL'
        )
    union all
    select
        queues.workflow_id,
        (
            select max(workflow_executions.priority)
            from workflow_executions
            where
                workflow_executions.queue = :queue
                and workflow_executions.workflow_id = queues.workflow_id
                and workflow_executions.available_at is not null
                and workflow_executions.priority < queues.priority
        ) as priority
    from queues
    where queues.priority is not null
)

select
    queues.workflow_id,
    workflows.workflow_type,
    workflows.version,
    queues.priority,
    (
        select min(workflow_executions.available_at)
        from workflow_executions
        where
            workflow_executions.queue = :queue
            and workflow_executions.workflow_id = queues.workflow_id
            and workflow_executions.priority = queues.priority
            and workflow_executions.available_at is not null
    ) as available_at
from queues
inner join workflows
    on queues.workflow_id = workflows.workflow_id
where queues.priority is not null;

-- name: load_available_in_queue
-- As load_available, of the executions in one named queue.
-- :now text
-- :passed_over text
-- :suspect_at integer
-- :with_suspects integer
-- :batch_size integer
-- =available_at text
-- =is_suspect integer
select
    workflow_execution_id,
    available_at,
    recovery_count >= :suspect_at as is_suspect,
    queue_key
from workflow_executions
where
    queue = :queue
    and workflow_id = :workflow_id
    and priority = :priority
    and available_at <= :now
    and paused_at is null
    and paused_with is null
    and workflow_execution_id not in (select value from json_each(:passed_over))
    and (:with_suspects or recovery_count < :suspect_at)
order by available_at
limit :batch_size;

-- name: load_next_key$
-- The next key after a key, of the executions in one queue that wait for a worker.
-- :after text
-- =queue_key text null
select min(queue_key) as queue_key
from workflow_executions
where
    queue = :queue
    and queue_key > :after
    and available_at is not null;

-- name: load_available_of_key
-- As load_available_in_queue, of one key, or of what has none.
-- :now text
-- :passed_over text
-- :suspect_at integer
-- :with_suspects integer
-- :batch_size integer
-- =available_at text
-- =is_suspect integer
select
    workflow_execution_id,
    available_at,
    recovery_count >= :suspect_at as is_suspect,
    queue_key
from workflow_executions
where
    queue = :queue
    and queue_key is :queue_key
    and workflow_id = :workflow_id
    and priority = :priority
    and available_at <= :now
    and paused_at is null
    and paused_with is null
    and workflow_execution_id not in (select value from json_each(:passed_over))
    and (:with_suspects or recovery_count < :suspect_at)
order by available_at
limit :batch_size;

-- name: load_duplicate^
-- The unfinished execution that has an id against duplicates, in a queue or in none.
-- One that is debounced has it only until it begins.
select
    workflow_execution_id,
    workflow_id,
    debounced
from workflow_executions
where
    coalesce(queue, '') = coalesce(:queue, '')
    and dedup_id = :dedup_id
    and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and (debounced = 0 or started_at is null);

-- name: postpone_execution!
-- Gives an execution that has not begun another input, and another time to begin.
-- Changing no row means that a worker has it.
-- @unfenced: nobody has it yet
update workflow_executions
set
    input_data = :input_data,
    available_at = iif(available_at is null, null, :available_at),
    updated_at = :updated_at
where
    workflow_execution_id = :workflow_execution_id
    and status = 'PENDING'
    and started_at is null
    and not exists (
        select 1
        from workflow_claims
        where
            workflow_claims.workflow_execution_id
            = workflow_executions.workflow_execution_id
    );

-- name: load_queue_of^
-- The queue that an execution names, and its key there.
select
    queue,
    queue_key
from workflow_executions
where workflow_execution_id = :workflow_execution_id;

-- name: load_unqueued
-- What only an engine that starts up takes over: first FOREGROUND_ONLY executions that
-- no worker has, with the time at which there is something to do for them; then those
-- that were written by hand without a time at which they may be claimed. Of these, an
-- index holds those that have not begun. Those that run are looked through, once for
-- each start of an engine, and their rowids come from a select of their own: where
-- statistics say that there are few other rows, SQLite would read all of the table.
-- =workflow_execution_id text
-- =workflow_id text
-- =guarantee text
-- =is_due integer
-- =wakes_at text null
select
    workflow_executions.workflow_execution_id,
    workflow_executions.workflow_id,
    workflow_executions.guarantee,
    (
        workflow_executions.status != 'SUSPENDED'
        or exists (
            select 1
            from workflow_signals
            where
                workflow_signals.workflow_execution_id
                = workflow_executions.workflow_execution_id
                and workflow_signals.status = 'PENDING'
        )
    ) as is_due,
    (
        select min(due_at)
        from (
            select +workflow_timers.fire_at as due_at
            from workflow_timers
            where
                workflow_timers.workflow_execution_id
                = workflow_executions.workflow_execution_id
                and workflow_timers.status = 'PENDING'
            union all
            select +waiting.due_at as due_at
            from step_checkpoints as waiting
            where
                waiting.workflow_execution_id
                = workflow_executions.workflow_execution_id
                and waiting.kind != 'STEP'
                and waiting.status = 'INTENT'
            union all
            select workflow_executions.ttl_expires_at as due_at
        ) as deadlines
    ) as wakes_at
from workflow_executions
where
    workflow_executions.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and workflow_executions.guarantee = 'FOREGROUND_ONLY'
    and workflow_executions.blocked_reason is null
    and not exists (
        select 1
        from workflow_claims
        where
            workflow_claims.workflow_execution_id
            = workflow_executions.workflow_execution_id
    )
union all
select
    workflow_executions.workflow_execution_id,
    workflow_executions.workflow_id,
    workflow_executions.guarantee,
    1 as is_due,
    null as wakes_at
from workflow_executions
where
    workflow_executions.status = 'PENDING'
    and workflow_executions.available_at is null
    and workflow_executions.paused_at is null
    and workflow_executions.paused_with is null
    and workflow_executions.guarantee = 'BEST_EFFORT_BACKGROUND'
    and workflow_executions.blocked_reason is null
    and not exists (
        select 1
        from workflow_claims
        where
            workflow_claims.workflow_execution_id
            = workflow_executions.workflow_execution_id
    )
union all
select
    workflow_executions.workflow_execution_id,
    workflow_executions.workflow_id,
    workflow_executions.guarantee,
    1 as is_due,
    null as wakes_at
from workflow_executions
where
    workflow_executions.rowid in (
        select begun.rowid
        from workflow_executions as begun
        where begun.status in ('RUNNING', 'COMPENSATING')
    )
    and workflow_executions.available_at is null
    and workflow_executions.paused_at is null
    and workflow_executions.paused_with is null
    and workflow_executions.guarantee = 'BEST_EFFORT_BACKGROUND'
    and workflow_executions.blocked_reason is null
    and not exists (
        select 1
        from workflow_claims
        where
            workflow_claims.workflow_execution_id
            = workflow_executions.workflow_execution_id
    );

-- name: load_unregistered
-- The oldest unfinished executions of some workflows (a JSON array of ids), which an
-- engine does not have. It takes the oldest of each workflow and status, so it costs
-- the same however many there are.
-- @sort: as many as it gives, for each workflow and status
-- :workflow_ids text
-- :row_limit integer
select workflow_execution_id
from workflow_executions
where
    rowid in (
        select among_the_oldest.rowid
        from json_each('["PENDING", "RUNNING", "SUSPENDED", "COMPENSATING"]') as wanted
        cross join json_each(:workflow_ids) as other
        cross join workflow_executions as among_the_oldest
        where
            among_the_oldest.rowid in (
                select oldest.rowid
                from workflow_executions as oldest
                where
                    oldest.status = wanted.value
                    and oldest.workflow_id = other.value
                order by oldest.created_at
                limit :row_limit
            )
    )
order by created_at, workflow_execution_id
limit :row_limit;

-- name: load_at_work
-- Of the executions that a dead worker had (a JSON array of ids): those that it may
-- have died of, since their code may have run then; and whether they are suspects. Two
-- kinds are left out. One that is SUSPENDED only waited. One of which no step and no
-- compensation runs, and one is paused until its next attempt, only waited, too. But
-- the worker must have come that far: it began the paused attempt itself, or it wrote
-- the execution's row after its claim. Otherwise it may have died in the replay.
-- :workflow_execution_ids text
-- :suspect_at integer
-- =is_suspect integer
select
    execution.workflow_execution_id,
    execution.recovery_count >= :suspect_at as is_suspect
from workflow_executions as execution
inner join workflow_claims as claim
    on execution.workflow_execution_id = claim.workflow_execution_id
where
    execution.workflow_execution_id in (
        select value from json_each(:workflow_execution_ids)
    )
    and +execution.status in ('PENDING', 'RUNNING', 'COMPENSATING')
    and (
        exists (
            select 1
            from step_checkpoints as running
            where
                running.workflow_execution_id = claim.workflow_execution_id
                and running.kind = 'STEP'
                and running.status = 'INTENT'
                and (running.attempt > 0 or running.due_at is null)
                and not exists (
                    select 1
                    from step_checkpoints as later
                    where
                        later.workflow_execution_id = running.workflow_execution_id
                        and later.branch = running.branch
                        and later.step_index = running.step_index
                        and later.attempt > running.attempt
                        and running.attempt > 0
                )
        )
        or not exists (
            select 1
            from step_checkpoints as paused
            where
                paused.workflow_execution_id = claim.workflow_execution_id
                and paused.kind = 'STEP'
                and paused.due_at is not null
                and paused.status = iif(paused.attempt > 0, 'FAILED', 'INTENT')
                and (
                    paused.started_at >= claim.claimed_at
                    or execution.updated_at > claim.claimed_at
                )
                and not exists (
                    select 1
                    from step_checkpoints as later
                    where
                        later.workflow_execution_id = paused.workflow_execution_id
                        and later.branch = paused.branch
                        and later.step_index = paused.step_index
                        and later.attempt > paused.attempt
                        and paused.attempt > 0
                )
        )
    );

-- name: count_recoveries
-- The worker that had claimed these executions (a JSON array of ids) has died, maybe of
-- them. An execution to which this happened too often in a row is blocked, with the
-- reason. The + keeps SQLite from looking for them among all that are unfinished.
-- @unfenced: in the transaction that deletes the claims of the dead
-- :workflow_execution_ids text
-- :max_recoveries integer
update workflow_executions
set
    recovery_count = max(recovery_count, 0) + 1,
    blocked_reason = iif(
        recovery_count < :max_recoveries,
        blocked_reason,
        coalesce(
            blocked_reason,
            'its worker died ' || (recovery_count + 1) || ' times in a row'
        )
    )
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids))
    and +status in ('PENDING', 'RUNNING', 'COMPENSATING')
returning
    workflow_execution_id,
    blocked_reason;

-- name: unblock_execution!
-- Lets workers claim an execution again; changing no row means that it was not blocked.
-- @unfenced: no worker has what is blocked
update workflow_executions
set
    blocked_reason = null,
    recovery_count = 0
where
    workflow_execution_id = :workflow_execution_id
    and blocked_reason is not null
    and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING');

-- name: mend_execution!
-- Opens an execution again, or ends it, by an operator's wish. It is not blocked any
-- more, nor in trouble, nor in the queue.
-- @unfenced: no living worker has it, as the same transaction has seen
update workflow_executions
set
    status = :status,
    current_step = :current_step,
    output_data = null,
    error_type = :error_type,
    error_message = :error_message,
    ttl_expires_at = :ttl_expires_at,
    last_event = :last_event,
    replay_origin = :replay_origin,
    dedup_id = iif(status in ('COMPLETED', 'FAILED', 'CANCELLED'), null, dedup_id),
    recovery_count = 0,
    blocked_reason = null,
    trouble = null,
    trouble_since = null,
    available_at = null,
    updated_at = :updated_at,
    status_since = iif(status = :status, status_since, :updated_at),
    paused_at = :paused_at,
    paused_by = :paused_by,
    paused_reason = :paused_reason
where workflow_execution_id = :workflow_execution_id;

-- name: pause_execution!
-- No worker claims an execution from now on, until it is resumed. If it is paused
-- already, it only gets another reason, unless that is null.
-- Changing no row means that it is unknown or final.
-- @unfenced: a person pauses it, also while a worker has it
-- :paused_at text
-- :paused_by text
update workflow_executions
set
    paused_by = iif(paused_at is null, :paused_by, paused_by),
    paused_reason = coalesce(:paused_reason, paused_reason),
    paused_at = coalesce(paused_at, :paused_at),
    available_at = null
where
    workflow_execution_id = :workflow_execution_id
    and status not in ('COMPLETED', 'FAILED', 'CANCELLED');

-- name: resume_execution!
-- Ends the pause of an execution; changing no row means that it is not paused.
-- @unfenced: a person resumes it, also while a worker still has it
update workflow_executions
set
    paused_at = null,
    paused_by = null,
    paused_reason = null
where
    workflow_execution_id = :workflow_execution_id
    and paused_at is not null;

-- name: end_pauses!
-- An execution is over, so nothing holds it any more.
-- @unfenced: in the transaction that ends it
update workflow_executions
set
    paused_at = null,
    paused_by = null,
    paused_reason = null,
    paused_with = null
where workflow_execution_id = :workflow_execution_id;

-- name: load_holder$
-- The execution whose pause holds the children of another one; null if none does.
-- =paused_with text null
select iif(paused_at is null, paused_with, workflow_execution_id) as paused_with
from workflow_executions
where
    workflow_execution_id = :workflow_execution_id
    and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING');

-- name: load_to_hold
-- The next children of a paused execution that do not name :holder in paused_with yet:
-- they name another execution, or none. Detached children are not held. The three parts
-- are what an index can find; with `is not :holder` it would read all children.
-- :holder text
-- :row_limit integer
-- =workflow_execution_id text
select workflow_execution_id
from workflow_executions
where
    parent_execution_id = :parent_execution_id
    and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and paused_with is null
    and on_parent_end = 'cancel'
    and workflow_execution_id != :holder
union all
select workflow_execution_id
from workflow_executions
where
    parent_execution_id = :parent_execution_id
    and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and paused_with < :holder
    and on_parent_end = 'cancel'
    and workflow_execution_id != :holder
union all
select workflow_execution_id
from workflow_executions
where
    parent_execution_id = :parent_execution_id
    and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and paused_with > :holder
    and on_parent_end = 'cancel'
    and workflow_execution_id != :holder
limit :row_limit;

-- name: load_to_let_go
-- The next children of an execution that are still held, though no pause above holds
-- them any more.
-- :row_limit integer
select workflow_execution_id
from workflow_executions
where
    parent_execution_id = :parent_execution_id
    and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and paused_with is not null
limit :row_limit;

-- name: hold_with!
-- Writes which paused execution holds these (a JSON array of ids); null: none does.
-- @unfenced: a person pauses or resumes what is above, also while a worker has them
-- :workflow_execution_ids text
-- :holder text null
update workflow_executions
set
    paused_with = :holder,
    available_at = iif(:holder is null, available_at, null)
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids));

-- name: load_unclaimed
-- Which of some executions (a JSON array of ids) no worker has.
-- :workflow_execution_ids text
select workflow_execution_id
from workflow_executions
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids))
    and not exists (
        select 1
        from workflow_claims
        where
            workflow_claims.workflow_execution_id
            = workflow_executions.workflow_execution_id
    );

-- name: hold_new_execution!
-- An execution that was about to run here has not begun: its workflow is paused.
-- @unfenced: in the transaction that starts it
update workflow_executions
set
    status = 'PENDING',
    started_at = null
where workflow_execution_id = :workflow_execution_id;

-- name: load_statuses
-- The statuses of some executions (a JSON array of ids).
-- :workflow_execution_ids text
select
    workflow_execution_id,
    status
from workflow_executions
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids));

-- name: load_troubles
-- Why their workers left some executions (a JSON array of ids), of those in trouble.
-- :workflow_execution_ids text
-- =trouble text
select
    workflow_execution_id,
    trouble
from workflow_executions
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids))
    and trouble is not null;

-- name: load_stopped
-- Which of some executions (a JSON array of ids) are blocked or in trouble.
-- :workflow_execution_ids text
select workflow_execution_id
from workflow_executions
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids))
    and (blocked_reason is not null or trouble is not null);

-- name: load_ids_to_prune
-- The next finished executions of one workflow, in one status, that were begun and
-- last changed before a time. They come in the order of the index, from the time on at
-- which the batch before ended. So one that is kept is passed over once.
-- :created_from text
-- :before text
-- :batch_size integer
select
    workflow_execution_id,
    created_at
from workflow_executions
where
    status = :status
    and status in ('COMPLETED', 'FAILED', 'CANCELLED')
    and workflow_id = :workflow_id
    and created_at >= :created_from
    and created_at < :before
    and updated_at < :before
order by created_at
limit :batch_size;

-- name: load_finished
-- Which of some executions (a JSON array of ids) are finished, and last changed before
-- a time. The + keeps SQLite from looking for them among all that are finished.
-- :workflow_execution_ids text
-- :before text
select workflow_execution_id
from workflow_executions
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids))
    and +status in ('COMPLETED', 'FAILED', 'CANCELLED')
    and updated_at < :before;

-- name: delete_executions!
-- Deletes a batch of executions (a JSON array of ids), after all that refers to them.
-- @unfenced: they are over, as load_finished says in the same transaction
-- :workflow_execution_ids text
delete from workflow_executions
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids));

-- name: name_schedule_of!
-- Notes which schedule has started an execution, in the transaction of its start.
-- @unfenced: nobody has it yet
update workflow_executions
set schedule_name = :schedule_name
where workflow_execution_id = :workflow_execution_id;

-- name: load_unfinished_of_schedule
-- The unfinished executions that a schedule has started, in the order of their ids.
select workflow_execution_id
from workflow_executions
where
    schedule_name = :schedule_name
    and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
order by workflow_execution_id;

-- name: load_values_of_executions
-- The values of some executions, in the order of their numbers.
-- :after integer
-- :row_limit integer
-- =row_number integer
select
    rowid as row_number,
    workflow_execution_id,
    input_data,
    output_data,
    error_message,
    trouble
from workflow_executions
where rowid > :after
order by rowid
limit :row_limit;

-- name: update_values_of_execution!
-- Changes the values of an execution, if they are still those that were read.
-- @unfenced: they say the same as before, and a row that a worker has changed stays
-- :former_input_data text null
-- :former_output_data text null
-- :former_error_message text null
-- :former_trouble text null
update workflow_executions
set
    input_data = :input_data,
    output_data = :output_data,
    error_message = :error_message,
    trouble = :trouble
where
    workflow_execution_id = :workflow_execution_id
    and input_data is :former_input_data
    and output_data is :former_output_data
    and error_message is :former_error_message
    and trouble is :former_trouble;
