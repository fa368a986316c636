-- workflow_open_steps: the attempts that have begun and not ended, the waits, and the
-- failed attempts that are to be tried again.
--
-- id                     integer    as in step_checkpoints, and so are the other
--                                   columns that have their names from there
-- workflow_execution_id  text       whose step it is
-- branch                 text       '' on the main line
-- step_index             integer    the number of the step in its branch
-- attempt                integer    from 1; 0 for the compensation
-- step_name              text       as the workflow names it
-- kind                   text       STEP, SLEEP or SIGNAL
-- status                 text       INTENT, or FAILED with a retry to come
-- idempotency_key        text null  the key that the step passes to an outside service
-- started_at             text null  when it began
-- waiting_for            text null  signal NAME, child ID, answer of WHOM to QUESTION,
--                                   time, retry of STEP, probe of STEP, or answer about STEP, by a person; null for a
--                                   step that runs
-- waiting_until          text null  when that ends by itself

drop view if exists workflow_open_steps;

create view workflow_open_steps as
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
        when step.kind = 'SIGNAL' and step.step_name glob '$child:*'
            then 'child ' || substr(step.step_name, 8)
        when step.kind = 'SIGNAL' and step.step_name glob '$answer:*'
            then
                'answer'
                || coalesce(' of ' || json_extract(step.input_data, '$.to'), '')
                || ' to '
                || coalesce(json_extract(step.input_data, '$.name'), step.step_name)
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
from step_checkpoints as step
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
            from step_checkpoints as later
            where
                later.workflow_execution_id = step.workflow_execution_id
                and later.branch = step.branch
                and later.step_index = step.step_index
                and later.attempt > step.attempt
        )
    );
