-- An execution is one run of a workflow. COMPLETED, FAILED and CANCELLED are
-- final: no statement here changes the status of a row that has one of them.
--
-- Statements that take a :fencing_token change nothing unless it is the token of
-- the execution's claim; null stands for a write made under no claim.

-- name: upsert_execution(workflow_execution_id, workflow_id, status, current_step, input_data, output_data, error_type, error_message, ttl_expires_at, guarantee, recovery_count, blocked_reason, created_at, updated_at, fencing_token)!
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
    recovery_count,
    blocked_reason,
    created_at,
    updated_at
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
    :recovery_count,
    :blocked_reason,
    :created_at,
    :updated_at
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
    recovery_count = excluded.recovery_count,
    blocked_reason = excluded.blocked_reason,
    created_at = excluded.created_at,
    updated_at = excluded.updated_at
where workflow_executions.status not in ('COMPLETED', 'FAILED', 'CANCELLED');

-- name: insert_execution_if_absent(workflow_execution_id, workflow_id, status, current_step, input_data, output_data, error_type, error_message, ttl_expires_at, guarantee, recovery_count, blocked_reason, created_at, updated_at)!
-- Starts an execution; changing no row means that the id is taken.
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
    recovery_count,
    blocked_reason,
    created_at,
    updated_at
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
    :recovery_count,
    :blocked_reason,
    :created_at,
    :updated_at
)
on conflict (workflow_execution_id) do nothing;

-- name: load_execution(workflow_execution_id)^
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
    recovery_count,
    blocked_reason,
    created_at,
    updated_at
from workflow_executions
where workflow_execution_id = :workflow_execution_id;

-- name: load_executions_by_status(statuses)
-- The executions in any of the given statuses (a JSON array), oldest first.
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
    recovery_count,
    blocked_reason,
    created_at,
    updated_at
from workflow_executions
where status in (select value from json_each(:statuses))
order by created_at, workflow_execution_id;

-- name: load_unfinished_executions()
-- What is left to do, oldest first, without the data: each execution that is not
-- final, with its definition, its worker where it is claimed, the earliest of its
-- pending timers, and whether signals wait for it. The + keeps SQLite from looking
-- for the earliest in the index of all timers: the timers of one execution are few.
-- =workflow_execution_id text
-- =workflow_type text
-- =version integer
-- =status text
-- =guarantee text
-- =blocked_reason text null
-- =recovery_count integer
-- =ttl_expires_at text null
-- =worker_id text null
-- =wakes_at text null
-- =is_signalled integer
select
    workflow_executions.workflow_execution_id,
    workflows.workflow_type,
    workflows.version,
    workflow_executions.status,
    workflow_executions.guarantee,
    workflow_executions.blocked_reason,
    workflow_executions.recovery_count,
    workflow_executions.ttl_expires_at,
    workflow_claims.worker_id,
    (
        select min(+workflow_timers.fire_at)
        from workflow_timers
        where
            workflow_timers.workflow_execution_id
            = workflow_executions.workflow_execution_id
            and workflow_timers.status = 'PENDING'
    ) as wakes_at,
    exists(
        select 1
        from workflow_signals
        where
            workflow_signals.workflow_execution_id
            = workflow_executions.workflow_execution_id
            and workflow_signals.status = 'PENDING'
    ) as is_signalled
from workflow_executions
inner join workflows
    on workflow_executions.workflow_id = workflows.workflow_id
left join workflow_claims
    on workflow_executions.workflow_execution_id = workflow_claims.workflow_execution_id
where
    workflow_executions.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
order by workflow_executions.created_at, workflow_executions.workflow_execution_id;

-- name: load_ids_to_prune(statuses, before, batch_size)
-- The next finished executions that were last changed before a time.
-- :statuses text
-- :before text
-- :batch_size integer
select workflow_execution_id
from workflow_executions
where
    status in (select value from json_each(:statuses))
    and status in ('COMPLETED', 'FAILED', 'CANCELLED')
    and updated_at < :before
limit :batch_size;

-- name: delete_executions(workflow_execution_ids)!
-- Deletes a batch of executions (a JSON array of ids), after all that refers to them.
-- :workflow_execution_ids text
delete from workflow_executions
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids));
