-- A timer is a durable deadline: of a sleep, or of a wait for a signal. It is
-- PENDING until the workflow goes on, so what is due can be found by an index.
--
-- Statements that take a :fencing_token change nothing unless it is the token of
-- the execution's claim; null stands for a write made under no claim.
--
-- They lock the row of the claim. A takeover deletes that row, and so it waits until they
-- are committed; or they wait for the takeover, and find no claim.

-- name: upsert_timer!
-- Saves a timer; one that is there already is updated.
-- Changing no row means that the claim is lost.
-- :fencing_token integer null
insert into durable_workflow.workflow_timers (
    workflow_timer_id,
    workflow_execution_id,
    step_name,
    fire_at,
    status,
    created_at
)
select
    :workflow_timer_id,
    :workflow_execution_id,
    :step_name,
    :fire_at,
    :status,
    :created_at
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
on conflict (workflow_timer_id) do update set
    workflow_execution_id = excluded.workflow_execution_id,
    step_name = excluded.step_name,
    fire_at = excluded.fire_at,
    status = excluded.status,
    created_at = excluded.created_at;

-- name: load_pending_timers
-- Every deadline still to come or to be noticed, the earliest first.
select
    workflow_timer_id,
    workflow_execution_id,
    step_name,
    fire_at,
    status,
    created_at
from durable_workflow.workflow_timers
where status = 'PENDING'
order by fire_at, workflow_timer_id;

-- name: load_timers
-- The timers of one execution, the earliest first.
select
    workflow_timer_id,
    workflow_execution_id,
    step_name,
    fire_at,
    status,
    created_at
from durable_workflow.workflow_timers
where workflow_execution_id = :workflow_execution_id
order by fire_at, workflow_timer_id;

-- name: cancel_pending_timers!
-- Nothing is due any more for an execution that is final.
-- @unfenced: in the transaction in which the execution ends
update durable_workflow.workflow_timers
set status = 'CANCELLED'
where workflow_execution_id = :workflow_execution_id and status = 'PENDING';

-- name: delete_timers!
-- Deletes the timers of a batch of executions (a JSON array of ids).
-- @unfenced: of executions that are over
delete from durable_workflow.workflow_timers
where
    workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    );

-- name: delete_old_timers!
-- Deletes a batch of timers that fired or were cancelled, and were due before a time.
-- In the order of the index, status by status, or the server might read all timers.
-- @unfenced: nothing is due any more
delete from durable_workflow.workflow_timers
where workflow_timer_id = any(
    array(
        (
            select workflow_timer_id
            from durable_workflow.workflow_timers
            where status = 'FIRED' and fire_at < :before
            order by fire_at
            limit :batch_size
        )
        union all
        (
            select workflow_timer_id
            from durable_workflow.workflow_timers
            where status = 'CANCELLED' and fire_at < :before
            order by fire_at
            limit :batch_size
        )
        limit :batch_size
    )
);
