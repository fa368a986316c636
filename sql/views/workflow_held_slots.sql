-- workflow_held_slots: who holds a slot of a limit now, and since when: executions that
-- run in a named queue, and steps that run under a limit. Those of a dead worker are here
-- until another worker has released its claims.
--
-- kind                   text          QUEUE or STEP, as in workflow_limits
-- name                   text          of the queue, or of the limit
-- limit_key              text null     the key that it counts for
-- workflow_execution_id  text          the execution
-- workflow_type          text null     the name of its workflow
-- branch                 text null     the branch of the step; null for an execution
-- step_index             integer null  the number of the step in the branch
-- step_name              text null     the name of the step
-- worker_id              text          who has claimed the execution
-- worker                 text          HOST:PROCESS_ID of that worker, or its id
-- held_since             text          when the slot was taken
-- held_seconds           real null     how long ago that was

drop view if exists workflow_held_slots;

create view workflow_held_slots as
select
    held.kind,
    held.name,
    held.limit_key,
    held.workflow_execution_id,
    workflow.workflow_type,
    held.branch,
    held.step_index,
    (
        select step.step_name
        from step_checkpoints as step
        where
            step.workflow_execution_id = held.workflow_execution_id
            and step.branch = held.branch
            and step.step_index = held.step_index
        order by step.attempt desc
        limit 1
    ) as step_name,
    held.worker_id,
    coalesce(worker.host || ':' || worker.process_id, held.worker_id) as worker,
    held.held_since,
    round((julianday('now') - julianday(held.held_since)) * 86400, 1) as held_seconds
from (
    select
        'QUEUE' as kind,
        claim.queue as name,
        claim.queue_key as limit_key,
        claim.workflow_execution_id,
        null as branch,
        null as step_index,
        claim.worker_id,
        claim.claimed_at as held_since
    from workflow_claims as claim
    where claim.queue is not null
    union all
    select
        'STEP' as kind,
        slot.name,
        slot.limit_key,
        slot.workflow_execution_id,
        slot.branch,
        slot.step_index,
        claim.worker_id,
        slot.taken_at as held_since
    from workflow_step_slots as slot
    inner join workflow_claims as claim
        on slot.fencing_token = claim.fencing_token
) as held
left join workflow_executions as execution
    on held.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join workflow_workers as worker
    on held.worker_id = worker.worker_id;
