-- A patch is a change of the code of a workflow. A row says that an execution takes the
-- new way; there is none for one that came there before the code had the patch.
--
-- Statements that take a :fencing_token change nothing unless it is the token of
-- the execution's claim; null stands for a write made under no claim.

-- name: insert_patch!
-- An execution passes a patch; one that it has passed already stays as it is.
-- Changing no row means that the claim is lost.
-- :fencing_token integer null
insert into workflow_patches (
    workflow_execution_id,
    branch,
    patch_name,
    event,
    passed_at
)
select
    :workflow_execution_id,
    :branch,
    :patch_name,
    :event,
    :passed_at
where
    :fencing_token is null
    or exists (
        select 1
        from workflow_claims
        where
            fencing_token = :fencing_token
            and workflow_execution_id = :workflow_execution_id
    )
on conflict (workflow_execution_id, branch, patch_name) do update set
    event = workflow_patches.event;

-- name: load_patches
-- The patches that an execution has passed, branch by branch.
select
    workflow_execution_id,
    branch,
    patch_name,
    event,
    passed_at
from workflow_patches
where workflow_execution_id = :workflow_execution_id
order by branch, patch_name;

-- name: delete_patches!
-- Deletes the patches of a batch of executions (a JSON array of ids).
-- @unfenced: of executions that are over, or that begin again in this transaction
-- :workflow_execution_ids text
delete from workflow_patches
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids));
