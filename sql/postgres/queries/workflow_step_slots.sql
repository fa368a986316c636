-- A slot that a step holds under a limit. It counts as long as the claim of the step is
-- there, so that nothing has to free it when a worker dies.

-- name: insert_step_slot!
-- A step takes a slot. Changing no row means that the claim is lost, or that the step
-- has one.
insert into durable_workflow.workflow_step_slots (
    name,
    limit_key,
    fencing_token,
    workflow_execution_id,
    branch,
    step_index,
    taken_at
)
select
    :name,
    :limit_key,
    fencing_token,
    workflow_execution_id,
    :branch,
    :step_index,
    :taken_at
from durable_workflow.workflow_claims
where
    fencing_token = :fencing_token
    and workflow_execution_id = :workflow_execution_id
for key share
on conflict (name, fencing_token, branch, step_index) do nothing;

-- name: take_step_slot!
-- As insert_step_slot, if a slot is free. Changing no row may also mean that the limit
-- has a rate, or is not there: the caller looks closer.
insert into durable_workflow.workflow_step_slots (
    name,
    limit_key,
    fencing_token,
    workflow_execution_id,
    branch,
    step_index,
    taken_at
)
select
    :name,
    :limit_key,
    fencing_token,
    workflow_execution_id,
    :branch,
    :step_index,
    :taken_at
from durable_workflow.workflow_claims
where
    fencing_token = :fencing_token
    and workflow_execution_id = :workflow_execution_id
    and exists (
        select 1
        from durable_workflow.workflow_limits as step_limit
        where
            step_limit.kind = 'STEP'
            and step_limit.name = :name
            and step_limit.rate is null
            and (
                step_limit.concurrency is null
                or step_limit.concurrency > (
                    select count(*)
                    from durable_workflow.workflow_step_slots as held
                    inner join durable_workflow.workflow_claims as holder
                        on held.fencing_token = holder.fencing_token
                    where held.name = step_limit.name
                )
            )
            and (
                step_limit.per_key is null
                or cast(:limit_key as text) is null
                or step_limit.per_key > (
                    select count(*)
                    from durable_workflow.workflow_step_slots as held
                    inner join durable_workflow.workflow_claims as holder
                        on held.fencing_token = holder.fencing_token
                    where
                        held.name = step_limit.name
                        and held.limit_key = :limit_key
                )
            )
    )
for key share of workflow_claims
on conflict (name, fencing_token, branch, step_index) do nothing;

-- name: delete_step_slot!
-- A step gives its slot back. Changing no row means that it holds none.
delete from durable_workflow.workflow_step_slots
where
    name = :name
    and fencing_token = :fencing_token
    and workflow_execution_id = :workflow_execution_id
    and branch = :branch
    and step_index = :step_index;

-- name: delete_void_step_slots!
-- Deletes the slots whose claims are gone.
-- @unfenced: nobody has them
delete from durable_workflow.workflow_step_slots
where
    not exists (
        select 1
        from durable_workflow.workflow_claims
        where workflow_claims.fencing_token = workflow_step_slots.fencing_token
    );

-- name: count_step_slots^
-- How many slots of a limit are held, and how many of them with one key; no row if none
-- is.
select
    count(*) as held,
    count(*) filter (where slot.limit_key = :limit_key) as of_key
from durable_workflow.workflow_step_slots as slot
inner join durable_workflow.workflow_claims as claim
    on slot.fencing_token = claim.fencing_token
where slot.name = :name
group by slot.name;
