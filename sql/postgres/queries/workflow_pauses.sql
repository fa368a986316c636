-- A pause holds all executions of a workflow, of a named queue, or of every workflow.
-- One that is paused by itself has columns of its own, in workflow_executions.

-- name: insert_pause!
-- Pauses a workflow, a queue, or everything. Changing no row means that it is paused
-- already.
insert into durable_workflow.workflow_pauses (
    scope, name, paused_at, paused_by, paused_reason
)
values (:scope, :name, :paused_at, :paused_by, :paused_reason)
on conflict (scope, name) do nothing;

-- name: change_pause_reason!
-- Gives another reason for a pause; who began it, and when, stays.
update durable_workflow.workflow_pauses
set paused_reason = :paused_reason
where
    scope = :scope
    and name = :name;

-- name: delete_pause!
-- Ends a pause; changing no row means that there is none.
delete from durable_workflow.workflow_pauses
where
    scope = :scope
    and name = :name;

-- name: load_pauses
-- Everything that is paused as a whole.
select
    scope,
    name,
    paused_at,
    paused_by,
    paused_reason
from durable_workflow.workflow_pauses
order by scope, name;
