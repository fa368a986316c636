-- Which named queues a worker serves. One without a row serves all, and what is in none.

-- name: insert_served_queues!
-- A worker serves these queues from now on: a JSON array of names.
-- :queues text
insert into workflow_worker_queues (worker_number, queue)
select
    :worker_number,
    served.value
from json_each(:queues) as served
where true
on conflict (worker_number, queue) do nothing;

-- name: delete_served_queues!
-- Deletes what these workers (a JSON array of numbers) served: they serve all queues.
-- :worker_numbers text
delete from workflow_worker_queues
where worker_number in (select value from json_each(:worker_numbers));
