-- A checkpoint is one attempt of one step. It is written as INTENT before the
-- attempt and becomes COMPLETED or FAILED after it. A compensation is the attempt
-- 0 of the step that it undoes, so the step's own row stays as it was.
--
-- Statements that take a :fencing_token change nothing unless it is the token of
-- the execution's claim; null stands for a write made under no claim.

-- name: upsert_checkpoint!
-- Saves an attempt; one that is there already is updated in place, and keeps its id and
-- the worker that began it. Changing no row means that the claim is lost.
-- :fencing_token integer null
insert into step_checkpoints (
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
    event,
    worker_number
)
select
    :workflow_execution_id,
    :branch,
    :step_index,
    :attempt,
    :step_name,
    :kind,
    :status,
    :input_data,
    :output_data,
    :error_type,
    :error_message,
    :idempotency_key,
    :compensate_ref,
    :started_at,
    :completed_at,
    :due_at,
    :event,
    :worker_number
where
    :fencing_token is null
    or exists (
        select 1
        from workflow_claims
        where
            fencing_token = :fencing_token
            and workflow_execution_id = :workflow_execution_id
    )
on conflict (workflow_execution_id, branch, step_index, attempt) do update set
    step_name = excluded.step_name,
    kind = excluded.kind,
    status = excluded.status,
    input_data = excluded.input_data,
    output_data = excluded.output_data,
    error_type = excluded.error_type,
    error_message = excluded.error_message,
    idempotency_key = excluded.idempotency_key,
    compensate_ref = excluded.compensate_ref,
    started_at = excluded.started_at,
    completed_at = excluded.completed_at,
    due_at = excluded.due_at,
    event = excluded.event,
    worker_number = iif(
        excluded.status = 'INTENT',
        coalesce(excluded.worker_number, step_checkpoints.worker_number),
        step_checkpoints.worker_number
    );

-- name: begin_step!
-- Records that an attempt begins of which there is no more to say: upsert_checkpoint in
-- half the time, for the statement that is sent most. Changing no row means that the
-- attempt is there already, or that the claim is lost.
insert into step_checkpoints (
    workflow_execution_id,
    branch,
    step_index,
    attempt,
    step_name,
    kind,
    status,
    started_at,
    worker_number
)
select
    :workflow_execution_id,
    :branch,
    :step_index,
    :attempt,
    :step_name,
    :kind,
    'INTENT',
    :started_at,
    :worker_number
where
    exists (
        select 1
        from workflow_claims
        where
            fencing_token = :fencing_token
            and workflow_execution_id = :workflow_execution_id
    )
on conflict (workflow_execution_id, branch, step_index, attempt) do nothing;

-- name: record_step!
-- Records that an attempt has succeeded whose beginning was not recorded: for a step
-- that is idempotent. Changing no row means that the attempt is there already, or that
-- the claim is lost.
insert into step_checkpoints (
    workflow_execution_id,
    branch,
    step_index,
    attempt,
    step_name,
    kind,
    status,
    output_data,
    started_at,
    completed_at,
    event,
    worker_number
)
select
    :workflow_execution_id,
    :branch,
    :step_index,
    :attempt,
    :step_name,
    :kind,
    :status,
    :output_data,
    :started_at,
    :completed_at,
    :event,
    :worker_number
where
    exists (
        select 1
        from workflow_claims
        where
            fencing_token = :fencing_token
            and workflow_execution_id = :workflow_execution_id
    )
on conflict (workflow_execution_id, branch, step_index, attempt) do nothing;

-- name: complete_step!
-- Records that an attempt that has begun has succeeded: upsert_checkpoint in half the
-- time. Changing no row means that it has not begun, or that the claim is lost.
update step_checkpoints
set
    status = :status,
    output_data = :output_data,
    completed_at = :completed_at,
    event = :event
where
    workflow_execution_id = :workflow_execution_id
    and branch = :branch
    and step_index = :step_index
    and attempt = :attempt
    and exists (
        select 1
        from workflow_claims
        where
            fencing_token = :fencing_token
            and workflow_execution_id = :workflow_execution_id
    );

-- name: load_checkpoints
-- Every attempt of every step of an execution: branch by branch, in step order.
select
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
from step_checkpoints
where workflow_execution_id = :workflow_execution_id
order by branch, step_index, attempt;

-- name: load_checkpoints_after
-- As load_checkpoints, but only some, those that follow a place: an execution may have
-- more than should be in memory twice.
-- :row_limit integer
select
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
from step_checkpoints
where
    workflow_execution_id = :workflow_execution_id
    and (branch, step_index, attempt) > (:branch, :step_index, :attempt)
order by branch, step_index, attempt
limit :row_limit;

-- name: load_open_waits
-- The waits for a signal of some name that an execution has begun and not ended, in no
-- order: SQLite would read all steps of the execution to sort them.
select
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
from step_checkpoints
where
    workflow_execution_id = :workflow_execution_id
    and step_name = :signal_name
    and kind = 'SIGNAL'
    and status = 'INTENT';

-- name: load_questions
-- The questions to people that are open: the longest waiting first.
-- :row_limit integer
-- =workflow_type text null
-- =input_data text
-- =started_at text
-- =is_answered integer
select
    wait.workflow_execution_id,
    workflow.workflow_type,
    wait.branch,
    wait.step_index,
    wait.step_name,
    wait.input_data,
    wait.started_at,
    wait.due_at,
    exists(
        select 1
        from workflow_signals as answer
        where
            answer.workflow_execution_id = wait.workflow_execution_id
            and answer.status = 'PENDING'
            and answer.signal_name = wait.step_name
    ) as is_answered
from step_checkpoints as wait
cross join workflow_executions as execution
    on wait.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    wait.input_data is not null
    and wait.started_at is not null
    and wait.started_at > ''
    and wait.kind = 'SIGNAL'
    and wait.status = 'INTENT'
    and wait.step_name glob '$answer:*'
    and execution.status in ('PENDING', 'RUNNING', 'SUSPENDED')
order by wait.started_at, wait.id
limit :row_limit;

-- name: load_questions_to
-- The questions that are open for one receiver: the longest waiting first.
-- :asked_of text
-- :row_limit integer
-- =workflow_type text null
-- =input_data text
-- =started_at text
-- =is_answered integer
select
    wait.workflow_execution_id,
    workflow.workflow_type,
    wait.branch,
    wait.step_index,
    wait.step_name,
    wait.input_data,
    wait.started_at,
    wait.due_at,
    exists(
        select 1
        from workflow_signals as answer
        where
            answer.workflow_execution_id = wait.workflow_execution_id
            and answer.status = 'PENDING'
            and answer.signal_name = wait.step_name
    ) as is_answered
from step_checkpoints as wait
cross join workflow_executions as execution
    on wait.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    wait.input_data is not null
    and wait.started_at is not null
    and json_extract(wait.input_data, '$.to') = :asked_of
    and wait.kind = 'SIGNAL'
    and wait.status = 'INTENT'
    and wait.step_name glob '$answer:*'
    and execution.status in ('PENDING', 'RUNNING', 'SUSPENDED')
order by wait.started_at, wait.id
limit :row_limit;

-- name: load_questions_of
-- The questions that one execution asks now: the longest waiting first.
-- @sort: as many as one execution asks
-- :row_limit integer
-- =workflow_type text null
-- =input_data text
-- =started_at text
-- =is_answered integer
select
    wait.workflow_execution_id,
    workflow.workflow_type,
    wait.branch,
    wait.step_index,
    wait.step_name,
    wait.input_data,
    wait.started_at,
    wait.due_at,
    exists(
        select 1
        from workflow_signals as answer
        where
            answer.workflow_execution_id = wait.workflow_execution_id
            and answer.status = 'PENDING'
            and answer.signal_name = wait.step_name
    ) as is_answered
from step_checkpoints as wait
cross join workflow_executions as execution
    on wait.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    wait.input_data is not null
    and wait.started_at is not null
    and wait.workflow_execution_id = :workflow_execution_id
    and wait.kind = 'SIGNAL'
    and wait.status = 'INTENT'
    and wait.step_name glob '$answer:*'
    and execution.status in ('PENDING', 'RUNNING', 'SUSPENDED')
order by wait.started_at, wait.id
limit :row_limit;

-- name: delete_checkpoints!
-- Deletes the checkpoints of a batch of executions (a JSON array of ids).
-- @unfenced: of executions that are over
-- :workflow_execution_ids text
delete from step_checkpoints
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids));

-- name: forget_attempts!
-- Deletes some attempts of an execution (a JSON array of their ids), which is to run
-- again from a step before them.
-- @unfenced: no living worker has it, as the same transaction has seen
-- :checkpoint_ids text
delete from step_checkpoints
where
    id in (select value from json_each(:checkpoint_ids))
    and workflow_execution_id = :workflow_execution_id;

-- name: hasten_attempts!
-- A step or a compensation that waits for its next attempt is due now: all of an
-- execution or, where an id is given, that one alone. One that waits for a person is
-- only counted, by its id. A worker that has the execution must be told. Once the next
-- attempt has begun, it is another row, or has no due_at, and one that is answered has
-- no error_type: so this changes nothing that a worker writes.
-- @unfenced: it changes only what waits, and a worker's own write follows it
-- :checkpoint_id integer null
-- :now text
update step_checkpoints
set due_at = iif(due_at > :now, :now, due_at)
where
    workflow_execution_id = :workflow_execution_id
    and kind = 'STEP'
    and iif(:checkpoint_id is null, due_at > :now, id = :checkpoint_id)
    and (
        (status = 'INTENT' and due_at is not null)
        or (status = 'FAILED' and attempt > 0 and due_at is not null)
        or (
            status = 'INTENT'
            and error_type = 'durable_workflow_sqlite.errors:StepAmbiguousError'
        )
    )
    and not exists (
        select 1
        from step_checkpoints as later
        where
            later.workflow_execution_id = step_checkpoints.workflow_execution_id
            and later.branch = step_checkpoints.branch
            and later.step_index = step_checkpoints.step_index
            and later.attempt > step_checkpoints.attempt
            and step_checkpoints.attempt > 0
    )
    and exists (
        select 1
        from workflow_executions
        where
            workflow_executions.workflow_execution_id
            = step_checkpoints.workflow_execution_id
            and workflow_executions.status in (
                'PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING'
            )
    );

-- name: acknowledge_not_undone!
-- A person has undone by hand what the failed compensations of an execution that is
-- over should have undone. Their errors stay.
-- @unfenced: of an execution that is over
update step_checkpoints
set status = 'COMPENSATED'
where
    workflow_execution_id = :workflow_execution_id
    and attempt = 0
    and status = 'FAILED'
    and exists (
        select 1
        from workflow_executions
        where
            workflow_executions.workflow_execution_id
            = step_checkpoints.workflow_execution_id
            and workflow_executions.status in ('COMPLETED', 'FAILED', 'CANCELLED')
    );

-- name: acknowledge_cut_off!
-- A person has found out what became of the steps that were cut off or timed out, of an
-- execution that is over: of those that workflow_in_doubt shows.
-- @unfenced: of executions that are over
-- :acknowledged_at text
update step_checkpoints
set acknowledged_at = :acknowledged_at
where
    id in (
        select checkpoint_id
        from workflow_in_doubt
        where
            workflow_execution_id = :workflow_execution_id
            and step_status = 'FAILED'
            and status in ('COMPLETED', 'FAILED', 'CANCELLED')
    );

-- name: load_open_steps
-- The steps of an execution that have no outcome: those that run, or were cut off, and
-- those that are in a back-off.
select latest.status
from step_checkpoints as latest
where
    latest.workflow_execution_id = :workflow_execution_id
    and latest.kind = 'STEP'
    and latest.attempt > 0
    and (
        latest.status = 'INTENT'
        or (latest.status = 'FAILED' and latest.due_at is not null)
    )
    and not exists (
        select 1
        from step_checkpoints as later
        where
            later.workflow_execution_id = latest.workflow_execution_id
            and later.branch = latest.branch
            and later.step_index = latest.step_index
            and later.attempt > latest.attempt
    );

-- name: load_values_of_steps
-- The values of some steps, in the order of their numbers.
-- :after integer
-- :row_limit integer
select
    id,
    workflow_execution_id,
    branch,
    step_index,
    attempt,
    step_name,
    input_data,
    output_data,
    error_message
from step_checkpoints
where id > :after
order by id
limit :row_limit;

-- name: update_values_of_step!
-- Changes the values of a step, if they are still those that were read.
-- @unfenced: they say the same as before, and a row that a worker has changed stays
-- :former_input_data text null
-- :former_output_data text null
-- :former_error_message text null
update step_checkpoints
set
    input_data = :input_data,
    output_data = :output_data,
    error_message = :error_message
where
    id = :id
    and input_data is :former_input_data
    and output_data is :former_output_data
    and error_message is :former_error_message;

-- name: load_stream_ends
-- Of the steps of an execution that have a name, the last attempt of each: whether that
-- is its outcome, and how it stands.
-- =is_over integer
select
    step.branch,
    step.step_index,
    step.status,
    step.event is not null as is_over
from step_checkpoints as step
where
    step.workflow_execution_id = :workflow_execution_id
    and step.step_name = :step_name
    and step.attempt = (
        select max(attempt.attempt)
        from step_checkpoints as attempt
        where
            attempt.workflow_execution_id = step.workflow_execution_id
            and attempt.branch = step.branch
            and attempt.step_index = step.step_index
    )
order by step.branch, step.step_index;
