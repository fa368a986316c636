-- An execution that only waits leaves its worker in a short transaction, however many
-- steps it has. The earliest end of its sleeps was looked for among all its steps: with
-- 100,000 children of a map that took a tenth of a second, and kept others from the lock.

create index idx_step_cp_asleep on step_checkpoints (workflow_execution_id, due_at)
where kind = 'SLEEP' and status = 'INTENT';
