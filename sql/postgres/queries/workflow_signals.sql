-- A signal is a durable message to an execution, by name. It is PENDING until a
-- wait consumes it; the ids are the order of arrival. One whose payload the wait cannot
-- read is REFUSED, and refused_reason says why. A name that begins with $ is the
-- library's own: `$cancel` asks the execution to cancel. `$mended` is DELIVERED from its
-- beginning: it tells a worker that left the execution as it is to look at it again. So
-- is `$paused`: it tells the worker that has the execution to leave it.
-- An execution has at most one signal of a signal_key.
--
-- Statements that take a :fencing_token change nothing unless it is the token of
-- the execution's claim; null stands for a write made under no claim.
--
-- They lock the row of the claim. A takeover deletes that row, and so it waits until they
-- are committed; or they wait for the takeover, and find no claim.

-- name: insert_signal$
-- Saves a signal that has no id yet, and gives it one.
-- @unfenced: anybody may send one
insert into durable_workflow.workflow_signals (
    workflow_execution_id,
    signal_name,
    payload,
    status,
    created_at,
    refused_reason,
    signal_key
)
values (
    :workflow_execution_id,
    :signal_name,
    :payload,
    :status,
    :created_at,
    :refused_reason,
    :signal_key
)
returning workflow_signal_id;

-- name: send_signal$
-- Keeps a signal for an execution that can still receive it, and gives its id.
-- No row means that the execution is unknown or final, or has a signal of this key.
-- The execution is held, so that it does not end before the signal is there.
-- @unfenced: anybody may send one
insert into durable_workflow.workflow_signals (
    workflow_execution_id,
    signal_name,
    payload,
    created_at,
    signal_key
)
select
    workflow_execution_id,
    :signal_name,
    :payload,
    :created_at,
    :signal_key
from durable_workflow.workflow_executions
where
    workflow_execution_id = :workflow_execution_id
    and status not in ('COMPLETED', 'FAILED', 'CANCELLED')
    and (
        cast(:signal_key as text) is null
        or not exists (
            select 1
            from durable_workflow.workflow_signals as sent
            where
                sent.workflow_execution_id = :workflow_execution_id
                and sent.signal_key = :signal_key
        )
    )
for no key update
returning workflow_signal_id;

-- name: answer_question$
-- Keeps the answer to a question that is open, and gives the id of the signal. No row
-- means that it is closed, that it is overdue, or that it has an answer.
-- @unfenced: anybody may send one
insert into durable_workflow.workflow_signals (
    workflow_execution_id,
    signal_name,
    payload,
    created_at,
    signal_key
)
select
    wait.workflow_execution_id,
    wait.step_name,
    :payload,
    :created_at,
    :signal_key
from durable_workflow.step_checkpoints as wait
inner join durable_workflow.workflow_executions as execution
    on wait.workflow_execution_id = execution.workflow_execution_id
where
    wait.workflow_execution_id = :workflow_execution_id
    and wait.step_name = :signal_name
    and wait.kind = 'SIGNAL'
    and wait.status = 'INTENT'
    and (wait.due_at is null or wait.due_at > :created_at)
    and execution.status in ('PENDING', 'RUNNING', 'SUSPENDED')
    and not exists (
        select 1
        from durable_workflow.workflow_signals as given
        where
            given.workflow_execution_id = :workflow_execution_id
            and given.status = 'PENDING'
            and given.signal_name = :signal_name
    )
returning workflow_signal_id;

-- name: load_keyed_signal^
-- The signal of an execution with a key, whatever has become of it.
select
    workflow_signal_id,
    signal_name,
    payload,
    status,
    created_at,
    refused_reason
from durable_workflow.workflow_signals
where
    workflow_execution_id = :workflow_execution_id
    and signal_key = :signal_key;

-- name: request_cancel$
-- Keeps a request to cancel, and gives its id. No row means that the execution is
-- unknown or final, that it is being undone, or that somebody has asked already.
-- @unfenced: anybody may send one
insert into durable_workflow.workflow_signals (
    workflow_execution_id, signal_name, created_at
)
select
    workflow_execution_id,
    :cancel_signal,
    :created_at
from durable_workflow.workflow_executions
where
    workflow_execution_id = :workflow_execution_id
    and status in ('PENDING', 'RUNNING', 'SUSPENDED')
    and not exists (
        select 1
        from durable_workflow.workflow_signals as asked
        where
            asked.workflow_execution_id = :workflow_execution_id
            and asked.signal_name = :cancel_signal
            and asked.status = 'PENDING'
    )
for no key update
returning workflow_signal_id;

-- name: upsert_signal!
-- Saves a signal under the id that it has; one that is there already is updated.
-- Changing no row means that the claim is lost.
-- :fencing_token integer null
insert into durable_workflow.workflow_signals (
    workflow_signal_id,
    workflow_execution_id,
    signal_name,
    payload,
    status,
    created_at,
    refused_reason,
    signal_key
)
select
    :workflow_signal_id,
    :workflow_execution_id,
    :signal_name,
    :payload,
    :status,
    :created_at,
    :refused_reason,
    :signal_key
where
    cast(:fencing_token as bigint) is null
    or exists (
        select 1
        from durable_workflow.workflow_claims
        where
            fencing_token = :fencing_token
            and workflow_execution_id = :workflow_execution_id
        for key share
    )
on conflict (workflow_signal_id) do update set
    workflow_execution_id = excluded.workflow_execution_id,
    signal_name = excluded.signal_name,
    payload = excluded.payload,
    status = excluded.status,
    created_at = excluded.created_at,
    refused_reason = excluded.refused_reason,
    signal_key = excluded.signal_key;

-- name: refuse_signal!
-- A wait cannot read a signal. Its payload stays as it is, and need not be JSON: a row
-- of an older version is not checked again. Changing no row means that the signal is
-- taken, or that the claim is lost.
-- :fencing_token integer null
update durable_workflow.workflow_signals
set
    status = 'REFUSED',
    refused_reason = :refused_reason
where
    workflow_signal_id = :workflow_signal_id
    and workflow_execution_id = :workflow_execution_id
    and status in ('PENDING', 'REFUSED')
    and (
        cast(:fencing_token as bigint) is null
        or exists (
            select 1
            from durable_workflow.workflow_claims
            where
                fencing_token = :fencing_token
                and workflow_execution_id = :workflow_execution_id
            for key share
        )
    );

-- name: load_pending_signals
-- The signals that wait for an execution, in order of arrival: those of one name,
-- or all of them where the name is null.
-- :signal_name text null
select
    workflow_signal_id,
    workflow_execution_id,
    signal_name,
    payload,
    status,
    created_at,
    refused_reason,
    signal_key
from durable_workflow.workflow_signals
where
    workflow_execution_id = :workflow_execution_id
    and (cast(:signal_name as text) is null or signal_name = :signal_name)
    and status = 'PENDING'
order by workflow_signal_id;

-- name: load_next_signals
-- Of each of some names (a JSON array) the first signal that waits for an execution, in
-- order of arrival. It costs the same however many wait: as an array, the ids are
-- looked up one by one.
select
    workflow_signal_id,
    workflow_execution_id,
    signal_name,
    payload,
    status,
    created_at,
    refused_reason,
    signal_key
from durable_workflow.workflow_signals
where
    workflow_signal_id = any(
        array(
            select
                (
                    select min(waiting.workflow_signal_id)
                    from durable_workflow.workflow_signals as waiting
                    where
                        waiting.workflow_execution_id = :workflow_execution_id
                        and waiting.status = 'PENDING'
                        and waiting.signal_name = wanted.name
                ) as workflow_signal_id
            from json_array_elements_text(cast(:signal_names as json)) as wanted (name)
        )
    )
order by workflow_signal_id;

-- name: load_last_signal_id$
-- The signal that came last, whatever became of it; null where there is none.
select max(workflow_signal_id) as last_signal_id
from durable_workflow.workflow_signals;

-- name: load_signals_after
-- The signals that came after one, in order of arrival.
select
    workflow_signal_id,
    workflow_execution_id,
    signal_name
from durable_workflow.workflow_signals
where workflow_signal_id > :workflow_signal_id
order by workflow_signal_id;

-- name: cancel_children!
-- Asks the children of an execution to cancel that are to end with it, if they have not
-- been asked yet; trg_wf_exec_ends_children does the same for one that ends.
-- @unfenced: in the transaction in which the parent begins again
insert into durable_workflow.workflow_signals (
    workflow_execution_id, signal_name, created_at
)
select
    child.workflow_execution_id,
    '$cancel',
    :created_at
from durable_workflow.workflow_executions as child
where
    child.parent_execution_id = :parent_execution_id
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

-- name: tell_paused!
-- Tells the workers of some executions (a JSON array of ids) that these are paused.
-- @unfenced: a person pauses them, also while a worker has them
insert into durable_workflow.workflow_signals (
    workflow_execution_id, signal_name, status, created_at
)
select
    claim.workflow_execution_id,
    '$paused',
    'DELIVERED',
    :created_at
from durable_workflow.workflow_claims as claim
where
    claim.workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    );

-- name: expire_ends_of_children!
-- Nobody waits any more for the children of an earlier run of an execution.
-- @unfenced: in the transaction in which it begins again
update durable_workflow.workflow_signals
set status = 'EXPIRED'
where
    workflow_execution_id = :workflow_execution_id
    and status = 'PENDING'
    and signal_name like '$child:%';

-- name: expire_pending_signals!
-- Nobody will wait any more for the signals of an execution that is final.
-- @unfenced: in the transaction in which the execution ends
update durable_workflow.workflow_signals
set status = 'EXPIRED'
where workflow_execution_id = :workflow_execution_id and status = 'PENDING';

-- name: expect_signals_again!
-- An execution that was final runs again, and may wait for the signals that it had not
-- taken; except those of the library, of which only the ends of children count.
-- @unfenced: in the transaction that opens the execution again
update durable_workflow.workflow_signals
set status = 'PENDING'
where
    workflow_execution_id = :workflow_execution_id
    and status = 'EXPIRED'
    and (signal_name not like '$%' or signal_name like '$child:%');

-- name: delete_signals!
-- Deletes the signals of a batch of executions (a JSON array of ids).
-- @unfenced: of executions that are over
delete from durable_workflow.workflow_signals
where
    workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    );

-- name: delete_old_signals!
-- Deletes a batch of signals that were delivered, expired or refused, and came before a
-- time. In the order of the index, or the server might read all signals.
-- @unfenced: no wait takes them any more
delete from durable_workflow.workflow_signals
where workflow_signal_id = any(
    array(
        select workflow_signal_id
        from durable_workflow.workflow_signals
        where status in ('DELIVERED', 'EXPIRED', 'REFUSED') and created_at < :before
        order by created_at
        limit :batch_size
    )
);

-- name: load_values_of_signals
-- The values of some signals, in the order of their numbers.
-- :after integer
-- :row_limit integer
select
    workflow_signal_id,
    workflow_execution_id,
    signal_name,
    payload,
    refused_reason
from durable_workflow.workflow_signals
where workflow_signal_id > :after
order by workflow_signal_id
limit :row_limit;

-- name: update_values_of_signal!
-- Changes the values of a signal, if they are still those that were read.
-- @unfenced: they say the same as before, and a row that a worker has changed stays
-- :former_payload text null
-- :former_refused_reason text null
update durable_workflow.workflow_signals
set
    payload = :payload,
    refused_reason = :refused_reason
where
    workflow_signal_id = :workflow_signal_id
    and payload is not distinct from :former_payload
    and refused_reason is not distinct from :former_refused_reason;
