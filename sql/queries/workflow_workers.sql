-- A worker is one store of one process: who it is, and which workflows it runs. Whether
-- it lives is known from its lock file alone.

-- name: insert_worker(worker_id, host, process_id, program, started_at, max_concurrent)$
-- Makes sure that a worker has its row, and gives its number. How many executions it
-- runs at once may be told later.
insert into workflow_workers (
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
on conflict (worker_id) do update set
    max_concurrent = coalesce(excluded.max_concurrent, workflow_workers.max_concurrent)
returning worker_number;

-- name: load_worker_number(worker_id)$
-- The number of a worker; no row if it has none.
select worker_number
from workflow_workers
where worker_id = :worker_id;

-- name: load_unmarked_workers()
-- The workers that retention has not found dead yet.
select
    worker_number,
    worker_id
from workflow_workers
where seen_dead_at is null;

-- name: mark_dead_workers(worker_numbers, seen_dead_at)!
-- These workers (a JSON array of numbers) are dead.
-- :worker_numbers text
-- :seen_dead_at text
update workflow_workers
set seen_dead_at = :seen_dead_at
where
    worker_number in (select value from json_each(:worker_numbers))
    and seen_dead_at is null;

-- name: load_forgettable_workers(before, batch_size)
-- Workers that were found dead before a time, and from which nothing is to be taken
-- over any more.
-- :before text
-- :batch_size integer
select worker_number
from workflow_workers
where
    seen_dead_at < :before
    and not exists (
        select 1
        from workflow_claims
        where workflow_claims.worker_id = workflow_workers.worker_id
    )
limit :batch_size;

-- name: delete_workers(worker_numbers)!
-- Forgets workers (a JSON array of numbers).
-- :worker_numbers text
delete from workflow_workers
where worker_number in (select value from json_each(:worker_numbers));
