-- workflow_in_doubt: the steps that have begun and not ended, and the steps that were
-- cut off or timed out. A step with the step_status INTENT still runs if its worker
-- lives. For all others it is unknown whether they took effect.
-- sql/views/workflow_in_doubt.sql says what each column means.

create or replace view durable_workflow.workflow_in_doubt as
with in_doubt as (
    select
        step.id,
        step.workflow_execution_id,
        'INTENT' as step_status
    from durable_workflow.workflow_executions as execution
    inner join durable_workflow.workflow_open_steps as step
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
    from durable_workflow.step_checkpoints as step
    where
        step.status = 'FAILED'
        and step.error_type in (
            'asyncio.exceptions:CancelledError',
            'durable_workflow_sqlite.errors:StepTimeoutError',
            'durable_workflow_sqlite.errors:StepAmbiguousError'
        )
        and coalesce(step.input_data, '') not like '%"idempotent":%'
        and coalesce(step.input_data, '') not like '%"answer":%'
        and coalesce(step.input_data, '') not like '%"ran_in":%'
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
            from durable_workflow.step_checkpoints as later
            where
                later.workflow_execution_id = step.workflow_execution_id
                and later.branch = step.branch
                and later.step_index = step.step_index
                and later.attempt > step.attempt
        )
        and not exists (
            select 1
            from durable_workflow.step_checkpoints as undone
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
    cast(
        round(
            extract(epoch from statement_timestamp() - step.started_at), 1
        ) as double precision
    ) as age_seconds,
    in_doubt.id as checkpoint_id
from in_doubt
inner join durable_workflow.step_checkpoints as step
    on in_doubt.id = step.id
inner join durable_workflow.workflow_executions as execution
    on in_doubt.workflow_execution_id = execution.workflow_execution_id
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join durable_workflow.workflow_claims as claim
    on execution.workflow_execution_id = claim.workflow_execution_id;
