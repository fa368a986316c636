-- An execution that only waits leaves its worker in a short transaction, however many
-- steps it has. The earliest end of its sleeps was looked for among all its steps.

create index idx_step_cp_asleep on durable_workflow.step_checkpoints (
    workflow_execution_id, due_at
)
where kind = 'SLEEP' and status = 'INTENT';
