-- workflow_questions: the questions to people that are open. One row of
-- workflow_signals answers a question: insert workflow_execution_id, signal_name, and the
-- answer as JSON in payload. An answer that is not of the type is REFUSED, and the
-- question stays open. The first answer that fits counts.
-- sql/views/workflow_questions.sql says what each column means.

create or replace view durable_workflow.workflow_questions as
with wait as (
    select
        workflow_execution_id,
        step_name,
        started_at,
        due_at,
        branch,
        step_index,
        -- PostgreSQL takes no NUL out of JSON: another character stands for it.
        cast(replace(input_data, '\u0000', '\ufffd') as json) as record
    from durable_workflow.step_checkpoints
    where
        kind = 'SIGNAL'
        and status = 'INTENT'
        and step_name like '$answer:%'
)

select
    wait.workflow_execution_id,
    workflow.workflow_type,
    wait.record ->> 'name' as name,
    wait.record ->> 'to' as asked_of,
    wait.record #>> '{asked,question}' as question,
    cast(wait.record #> '{asked,details}' as text) as details,
    wait.record ->> 'type' as answer_type,
    cast(wait.record #> '{asked,schema}' as text) as answer_schema,
    wait.step_name as signal_name,
    wait.started_at as asked_at,
    wait.due_at as deadline,
    cast(exists (
        select 1
        from durable_workflow.workflow_signals as answer
        where
            answer.workflow_execution_id = wait.workflow_execution_id
            and answer.status = 'PENDING'
            and answer.signal_name = wait.step_name
    ) as integer) as is_answered,
    cast(
        round(
            extract(epoch from statement_timestamp() - wait.started_at), 1
        ) as double precision
    ) as age_seconds,
    wait.branch,
    wait.step_index
from wait
inner join durable_workflow.workflow_executions as execution
    on wait.workflow_execution_id = execution.workflow_execution_id
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.status in ('PENDING', 'RUNNING', 'SUSPENDED');
