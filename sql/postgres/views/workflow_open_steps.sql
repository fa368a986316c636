-- workflow_open_steps: the attempts that have begun and not ended, the waits, and the
-- failed attempts that are to be tried again.
-- sql/views/workflow_open_steps.sql says what each column means.

create or replace view durable_workflow.workflow_open_steps as
select
    step.id,
    step.workflow_execution_id,
    step.branch,
    step.step_index,
    step.attempt,
    step.step_name,
    step.kind,
    step.status,
    step.idempotency_key,
    step.started_at,
    case
        when step.kind = 'SIGNAL' and step.step_name like '$child:%'
            then 'child ' || substr(step.step_name, 8)
        when step.kind = 'SIGNAL' and step.step_name like '$answer:%'
            then
                'answer'
                || coalesce(
                    ' of '
                    || (
                        cast(replace(step.input_data, '\u0000', '\ufffd') as json)
                        ->> 'to'
                    ),
                    ''
                )
                || ' to '
                || coalesce(
                    cast(replace(step.input_data, '\u0000', '\ufffd') as json)
                    ->> 'name',
                    step.step_name
                )
        when step.kind = 'SIGNAL' then 'signal ' || step.step_name
        when step.kind = 'SLEEP' then 'time'
        when
            step.status = 'INTENT'
            and step.error_type = 'durable_workflow_sqlite.errors:StepAmbiguousError'
            and step.due_at is null then 'answer about ' || step.step_name
        when
            step.status = 'INTENT'
            and step.attempt > 0
            and step.due_at is not null then 'probe of ' || step.step_name
        when step.due_at is not null then 'retry of ' || step.step_name
    end as waiting_for,
    step.due_at as waiting_until
from durable_workflow.step_checkpoints as step
where
    (
        step.status = 'INTENT'
        or (
            step.status = 'FAILED'
            and step.kind = 'STEP'
            and step.due_at is not null
        )
    )
    and (
        step.attempt = 0
        or not exists (
            select 1
            from durable_workflow.step_checkpoints as later
            where
                later.workflow_execution_id = step.workflow_execution_id
                and later.branch = step.branch
                and later.step_index = step.step_index
                and later.attempt > step.attempt
        )
    );
