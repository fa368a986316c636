-- A claim is the right of one worker to write for one execution; its fencing
-- token is checked by every write that is made under it. No row means that
-- nobody works on the execution.

-- name: insert_claim$
-- Claims an execution for a worker, and gives the token. One that is in a named queue
-- takes a slot of it. No row means that it is unknown, final, blocked or paused, or
-- that a worker has it.
insert into workflow_claims (
    workflow_execution_id,
    worker_id,
    claimed_at,
    queue,
    queue_key
)
select
    workflow_execution_id,
    :worker_id,
    :claimed_at,
    queue,
    queue_key
from workflow_executions
where
    workflow_execution_id = :workflow_execution_id
    and status != 'COMPLETED'
    and status != 'FAILED'
    and status != 'CANCELLED'
    and blocked_reason is null
    and paused_at is null
    and paused_with is null
    and not exists (
        select 1
        from workflow_pauses
        where
            +workflow_pauses.scope = 'ALL'
            or (
                workflow_pauses.scope = 'QUEUE'
                and workflow_pauses.name = workflow_executions.queue
            )
            or (
                workflow_pauses.scope = 'WORKFLOW'
                and workflow_pauses.name = (
                    select workflows.workflow_type
                    from workflows
                    where workflows.workflow_id = workflow_executions.workflow_id
                )
            )
    )
on conflict (workflow_execution_id) do nothing
returning fencing_token;

-- name: load_claim^
-- Who works on an execution, and since when.
select
    worker_id,
    fencing_token,
    claimed_at
from workflow_claims
where workflow_execution_id = :workflow_execution_id;

-- name: mark_claims!
-- Says that the worker of these claims (a JSON array of tokens) was told to stop.
-- :fencing_tokens text
update workflow_claims
set is_stopping = 1
where fencing_token in (select value from json_each(:fencing_tokens));

-- name: load_claiming_workers
-- Every worker that has claims. It hops from one to the next, so it costs the same
-- however many claims each has.
-- =worker_id text
with recursive workers (worker_id) as (
    select min(worker_id) from workflow_claims
    union all
    select (
        select min(workflow_claims.worker_id)
        from workflow_claims
        where workflow_claims.worker_id > workers.worker_id
    )
    from workers
    where workers.worker_id is not null
)

select worker_id
from workers
where worker_id is not null;

-- name: load_claims_of
-- What one worker works on, the oldest claim first.
select
    fencing_token,
    workflow_execution_id,
    is_stopping
from workflow_claims
where worker_id = :worker_id
order by fencing_token;

-- name: delete_claim!
-- Releases a claim; changing no row means that it is lost already.
delete from workflow_claims
where
    fencing_token = :fencing_token
    and workflow_execution_id = :workflow_execution_id;

-- name: delete_claim_of!
-- Deletes the claim of an execution that is final, of any worker.
delete from workflow_claims
where workflow_execution_id = :workflow_execution_id;

-- name: delete_claims!
-- Deletes the claims of a batch of executions (a JSON array of ids).
-- :workflow_execution_ids text
delete from workflow_claims
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids));

-- name: count_slots^
-- How many slots of a queue are held, and how many of them by one worker; no row if
-- none is.
-- :queue text
-- =held integer
-- =by_worker integer
select
    count(*) as held,
    count(*) filter (where worker_id = :worker_id) as by_worker
from workflow_claims
where queue = :queue
group by queue;

-- name: count_slots_of_keys
-- How many slots of a queue each of its keys holds.
-- :queue text
-- =queue_key text
-- =held integer
select
    queue_key,
    count(*) as held
from workflow_claims
where
    queue = :queue
    and queue_key is not null
group by queue_key;

-- name: give_up_slot!
-- The execution of a claim only waits from now on: it holds no slot of its queue.
update workflow_claims
set
    queue = null,
    queue_key = null
where
    fencing_token = :fencing_token
    and workflow_execution_id = :workflow_execution_id
    and queue is not null;

-- name: take_slot!
-- The execution of a claim goes on: it holds a slot again. Changing no row means that
-- the claim is lost.
update workflow_claims
set
    queue = :queue,
    queue_key = :queue_key
where
    fencing_token = :fencing_token
    and workflow_execution_id = :workflow_execution_id;
