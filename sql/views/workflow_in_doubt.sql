-- workflow_in_doubt: the steps that have begun and not ended, and the steps that were
-- cut off or timed out. The workflow cancelled these while they ran, or they took longer
-- than their timeout; they are not undone, and no person has dealt with them. A step
-- with the step_status INTENT still runs if its worker lives. For all others it is
-- unknown whether they took effect. The steps that wait for the answer of a person are in
-- workflow_unresolved instead.
--
-- workflow_execution_id  text       whose step it is
-- workflow_type          text null  the name of its workflow
-- status                 text       of the execution
-- branch                 text       '' on the main line
-- step_index             integer    the number of the step in its branch
-- attempt                integer    from 1; 0 for the compensation
-- step_name              text       as the workflow names it
-- step_status            text       INTENT: it has begun and not ended; FAILED: it was
--                                   cut off or timed out, and runs again only to be
--                                   undone
-- error_type             text null  CancelledError: it was cut off; StepTimeoutError: it
--                                   timed out; StepAmbiguousError: one of both, and it
--                                   failed with that; with the module before the name
-- idempotency_key        text null  the key that the step passes to an outside service
-- started_at             text null  when it began
-- worker_id              text null  who has claimed the execution; null if nobody has
-- claimed_at             text null  when
-- age_seconds            real null  since it began
-- checkpoint_id          integer    the id in step_checkpoints

drop view if exists workflow_in_doubt;

create view workflow_in_doubt as
with in_doubt as (
    select
        step.id,
        step.workflow_execution_id,
        'INTENT' as step_status
    from workflow_executions as execution
    inner join workflow_open_steps as step
        on execution.workflow_execution_id = step.workflow_execution_id
    where
        execution.status in ('RUNNING', 'COMPENSATING')
        and step.kind = 'STEP'
        and step.waiting_for is null
    union all
    select
        step.id,
        step.workflow_execution_id,
        'FAILED' as step_status
    from step_checkpoints as step
    where
        step.status = 'FAILED'
        and step.error_type in (
            'asyncio.exceptions:CancelledError',
            'durable_workflow_sqlite.errors:StepTimeoutError',
            'durable_workflow_sqlite.errors:StepAmbiguousError'
        )
        and coalesce(step.input_data, '') not glob '*"idempotent":*'
        and coalesce(step.input_data, '') not glob '*"answer":*'
        and coalesce(step.input_data, '') not glob '*"ran_in":*'
        and step.due_at is null
        and step.acknowledged_at is null
        and step.kind = 'STEP'
        and step.attempt > 0
        and step.started_at is not null
        and (
            step.event is null
            or step.error_type != 'asyncio.exceptions:CancelledError'
        )
        and not exists (
            select 1
            from step_checkpoints as later
            where
                later.workflow_execution_id = step.workflow_execution_id
                and later.branch = step.branch
                and later.step_index = step.step_index
                and later.attempt > step.attempt
        )
        and not exists (
            select 1
            from step_checkpoints as undone
            where
                undone.workflow_execution_id = step.workflow_execution_id
                and undone.branch = step.branch
                and undone.step_index = step.step_index
                and undone.attempt = 0
                and undone.status = 'COMPENSATED'
        )
)

select
    in_doubt.workflow_execution_id,
    workflow.workflow_type,
    execution.status,
    step.branch,
    step.step_index,
    step.attempt,
    step.step_name,
    in_doubt.step_status,
    step.error_type,
    step.idempotency_key,
    step.started_at,
    claim.worker_id,
    claim.claimed_at,
    round((julianday('now') - julianday(step.started_at)) * 86400, 1) as age_seconds,
    in_doubt.id as checkpoint_id
from in_doubt
inner join step_checkpoints as step
    on in_doubt.id = step.id
inner join workflow_executions as execution
    on in_doubt.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join workflow_claims as claim
    on execution.workflow_execution_id = claim.workflow_execution_id;
