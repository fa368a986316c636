-- A workflow is a definition: a type name and a version. Executions refer to it,
-- so it is written before the first of them and hardly ever changes.

-- name: upsert_workflow!
-- Saves a definition; one that is there already is updated.
insert into durable_workflow.workflows (workflow_id, workflow_type, version, created_at)
values (:workflow_id, :workflow_type, :version, :created_at)
on conflict (workflow_id) do update set
    workflow_type = excluded.workflow_type,
    version = excluded.version,
    created_at = excluded.created_at;

-- name: insert_workflow_if_absent!
-- Makes sure that a definition is there, and leaves one that is as it was.
insert into durable_workflow.workflows (workflow_id, workflow_type, version, created_at)
values (:workflow_id, :workflow_type, :version, :created_at)
on conflict (workflow_id) do nothing;

-- name: load_workflow^
-- One definition by its id.
select
    workflow_id,
    workflow_type,
    version,
    created_at
from durable_workflow.workflows
where workflow_id = :workflow_id;

-- name: load_workflows
-- Every definition that executions in this file were started from.
select
    workflow_id,
    workflow_type,
    version,
    created_at
from durable_workflow.workflows
order by workflow_type, version, workflow_id;
