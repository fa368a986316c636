-- workflow_questions: the questions to people that are open. One row of
-- workflow_signals answers a question: insert workflow_execution_id, signal_name, and the
-- answer as JSON in payload. An answer that is not of the type is REFUSED, and the
-- question stays open. The first answer that fits counts.
--
-- workflow_execution_id  text       the execution that asks
-- workflow_type          text null  the name of its workflow
-- name                   text null  of the question, as the workflow names it
-- asked_of               text null  whom it is for; null for nobody in particular
-- question               text null  the text; null if a codec has encoded it
-- details                text null  what helps to answer, as JSON
-- answer_type            text null  the type of the answer
-- answer_schema          text null  the same as JSON Schema
-- signal_name            text       the name of the signal that answers it
-- asked_at               text null  when it was asked
-- deadline               text null  until when it can be answered; null for always
-- is_answered            integer    1 if an answer is there that is not taken yet
-- age_seconds            real null  since it was asked
-- branch                 text       '' on the main line
-- step_index             integer    its number in the branch

drop view if exists workflow_questions;

create view workflow_questions as
select
    wait.workflow_execution_id,
    workflow.workflow_type,
    json_extract(wait.input_data, '$.name') as name,
    json_extract(wait.input_data, '$.to') as asked_of,
    json_extract(wait.input_data, '$.asked.question') as question,
    case
        when json_type(wait.input_data, '$.asked.details') in ('object', 'array')
            then json_extract(wait.input_data, '$.asked.details')
        when json_type(wait.input_data, '$.asked.details') is not null
            then json_quote(json_extract(wait.input_data, '$.asked.details'))
    end as details,
    json_extract(wait.input_data, '$.type') as answer_type,
    json_extract(wait.input_data, '$.asked.schema') as answer_schema,
    wait.step_name as signal_name,
    wait.started_at as asked_at,
    wait.due_at as deadline,
    exists(
        select 1
        from workflow_signals as answer
        where
            answer.workflow_execution_id = wait.workflow_execution_id
            and answer.status = 'PENDING'
            and answer.signal_name = wait.step_name
    ) as is_answered,
    round((julianday('now') - julianday(wait.started_at)) * 86400, 1) as age_seconds,
    wait.branch,
    wait.step_index
from step_checkpoints as wait
inner join workflow_executions as execution
    on wait.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    wait.kind = 'SIGNAL'
    and wait.status = 'INTENT'
    and wait.step_name glob '$answer:*'
    and execution.status in ('PENDING', 'RUNNING', 'SUSPENDED');
