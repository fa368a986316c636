-- A step that is in doubt may wait until a person says what became of it. Such an attempt
-- is INTENT, with the error_type StepAmbiguousError. The view workflow_unresolved shows
-- them; workflow_open_steps says what waits for an answer. A step that fails with
-- StepAmbiguousError may have taken effect: workflow_in_doubt shows it, too. The old
-- index goes last: until the end of the transaction, nobody can read the table then.

create index idx_step_cp_asked on durable_workflow.step_checkpoints (
    workflow_execution_id
)
where
error_type = 'durable_workflow_sqlite.errors:StepAmbiguousError'
and status = 'INTENT';

alter index if exists durable_workflow.idx_step_cp_cut_off
rename to idx_step_cp_cut_off_before;

create index idx_step_cp_cut_off on durable_workflow.step_checkpoints (
    workflow_execution_id
)
where
status = 'FAILED'
and error_type in (
    'asyncio.exceptions:CancelledError',
    'durable_workflow_sqlite.errors:StepTimeoutError',
    'durable_workflow_sqlite.errors:StepAmbiguousError'
)
and due_at is null
and acknowledged_at is null;

drop index if exists durable_workflow.idx_step_cp_cut_off_before;
