-- Which workflows a worker runs, by type and version. If no living worker runs the
-- workflow of an execution, nothing continues it.

-- name: insert_served!
-- A worker runs these workflows from now on: a JSON array of [type, version].
-- :workflows text
insert into workflow_worker_workflows (worker_number, workflow_type, version)
select
    :worker_number,
    json_extract(served.value, '$[0]'),
    json_extract(served.value, '$[1]')
from json_each(:workflows) as served
where true
on conflict (worker_number, workflow_type, version) do nothing;

-- name: load_workflows_of_workers
-- What each worker runs, also of those that are dead: whether one lives, no row says.
-- @scan workflow_worker_workflows: a few for each worker
-- @scan workflow_workers: all of them are meant
select
    workflow_workers.worker_id,
    workflow_worker_workflows.workflow_type,
    workflow_worker_workflows.version
from workflow_worker_workflows
inner join workflow_workers
    on workflow_worker_workflows.worker_number = workflow_workers.worker_number;

-- name: load_workers_of
-- Who has the workflow of an execution registered, also those that are dead.
-- @scan workflow_workers: a few of them
-- :workflow_execution_id text
select
    worker.worker_id,
    worker.host,
    worker.process_id
from workflow_worker_workflows as served
inner join workflows as workflow
    on
        served.workflow_type = workflow.workflow_type
        and served.version = workflow.version
inner join workflow_executions as execution
    on workflow.workflow_id = execution.workflow_id
inner join workflow_workers as worker
    on served.worker_number = worker.worker_number
where execution.workflow_execution_id = :workflow_execution_id
order by worker.worker_number;

-- name: delete_served!
-- Deletes what these workers (a JSON array of numbers) ran.
-- :worker_numbers text
delete from workflow_worker_workflows
where worker_number in (select value from json_each(:worker_numbers));
