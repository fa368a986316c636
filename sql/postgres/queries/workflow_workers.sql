-- A worker is one store of one process: who it is, and which workflows it runs. Whether
-- it lives is known from its lock file alone.

-- name: insert_worker$
-- Makes the row of a worker, and gives its number.
insert into durable_workflow.workflow_workers (
    worker_id,
    host,
    process_id,
    program,
    started_at,
    max_concurrent
)
values (
    :worker_id,
    :host,
    :process_id,
    :program,
    :started_at,
    :max_concurrent
)
returning worker_number;

-- name: update_slots!
-- How many executions a worker runs at once, which was not known when it began.
update durable_workflow.workflow_workers
set max_concurrent = :max_concurrent
where worker_number = :worker_number;

-- name: load_worker_number$
-- The number of a worker; no row if it has none.
select worker_number
from durable_workflow.workflow_workers
where worker_id = :worker_id;

-- name: load_unmarked_workers
-- The workers that retention has not found dead yet.
select
    worker_number,
    worker_id
from durable_workflow.workflow_workers
where seen_dead_at is null;

-- name: mark_dead_workers!
-- Notes when these workers (a JSON array of numbers) were first found dead.
update durable_workflow.workflow_workers
set seen_dead_at = :seen_dead_at
where
    worker_number = any(cast(translate(:worker_numbers, '[]', '{}') as bigint[]))
    and seen_dead_at is null;

-- name: load_forgettable_workers
-- Workers that were found dead before a time, and from which nothing is to be taken
-- over any more.
select worker_number
from durable_workflow.workflow_workers
where
    seen_dead_at < :before
    and not exists (
        select 1
        from durable_workflow.workflow_claims
        where workflow_claims.worker_id = workflow_workers.worker_id
    )
limit :batch_size;

-- name: delete_workers!
-- Deletes the rows of workers (a JSON array of numbers).
delete from durable_workflow.workflow_workers
where worker_number = any(cast(translate(:worker_numbers, '[]', '{}') as bigint[]));
