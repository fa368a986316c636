-- Which named queues a worker serves. One without a row serves all, and what is in none.

-- name: insert_served_queues!
-- A worker serves these queues from now on: a JSON array of names.
insert into durable_workflow.workflow_worker_queues (worker_number, queue)
select
    :worker_number,
    served.queue
from json_array_elements_text(cast(:queues as json)) as served (queue)
on conflict (worker_number, queue) do nothing;

-- name: delete_served_queues!
-- Deletes what these workers (a JSON array of numbers) served: they serve all queues.
delete from durable_workflow.workflow_worker_queues
where worker_number = any(cast(translate(:worker_numbers, '[]', '{}') as bigint[]));
