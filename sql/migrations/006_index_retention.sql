-- Retention finds what it deletes by an index, however much is kept: it costs what
-- it deletes. And a wait for a signal costs what waits, however many signals the
-- execution had before. (load_ids_to_prune needs nothing new: it walks
-- idx_wf_exec_status.)

-- delete_old_signals: a signal enters this index when it is delivered or expires.

create index idx_wf_signal_old on workflow_signals (created_at)
where status in ('DELIVERED', 'EXPIRED');

-- load_pending_signals, expire_pending_signals, put_into_queue and load_unqueued
-- look for the pending signals of an execution, delete_signals for all of them. The
-- name stood in the way of the status; and what SQLite keeps equal entries in is the
-- order of arrival.

drop index idx_wf_signal_pending;

create index idx_wf_signal_pending on workflow_signals (
    workflow_execution_id,
    status
);

-- No query looks for the executions of a workflow in whatever status. Starting an
-- execution is cheaper without it.

drop index idx_wf_exec_workflow;
