-- A question to people is the wait for a signal whose name begins with $answer: and whose
-- input_data holds the question. The open ones are found by when they were asked, and by
-- whom they are for, however many other waits there are. The view workflow_questions
-- shows them. PostgreSQL takes no NUL out of JSON: another character stands for it.

create index idx_step_cp_question on durable_workflow.step_checkpoints (started_at, id)
where kind = 'SIGNAL' and status = 'INTENT' and step_name like '$answer:%';

create index idx_step_cp_question_to on durable_workflow.step_checkpoints (
    (cast(replace(input_data, '\u0000', '\ufffd') as json) ->> 'to'), started_at, id
)
where kind = 'SIGNAL' and status = 'INTENT' and step_name like '$answer:%';
