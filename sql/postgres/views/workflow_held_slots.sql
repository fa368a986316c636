-- workflow_held_slots: who holds a slot of a limit now, and since when: executions that
-- run in a named queue, and steps that run under a limit. Those of a dead worker are here
-- until another worker has released its claims.
-- sql/views/workflow_held_slots.sql says what each column means.

create or replace view durable_workflow.workflow_held_slots as
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
        from durable_workflow.step_checkpoints as step
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
    cast(
        round(
            extract(epoch from statement_timestamp() - held.held_since), 1
        ) as double precision
    ) as held_seconds
from (
    select
        'QUEUE' as kind,
        claim.queue as name,
        claim.queue_key as limit_key,
        claim.workflow_execution_id,
        cast(null as text) as branch,
        cast(null as bigint) as step_index,
        claim.worker_id,
        claim.claimed_at as held_since
    from durable_workflow.workflow_claims as claim
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
    from durable_workflow.workflow_step_slots as slot
    inner join durable_workflow.workflow_claims as claim
        on slot.fencing_token = claim.fencing_token
) as held
left join durable_workflow.workflow_executions as execution
    on held.workflow_execution_id = execution.workflow_execution_id
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join durable_workflow.workflow_workers as worker
    on held.worker_id = worker.worker_id;
