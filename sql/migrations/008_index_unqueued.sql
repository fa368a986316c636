-- An engine that starts up looks for executions that were written by hand without a
-- time at which they may be claimed. It read all that is queued for those few, and
-- with each row the input that lies beside it: 180 ms at every start with 100,000
-- executions in the queue, of 2 kB each.

-- load_unqueued: those that have not begun. The library itself gives each a time, so
-- this index is empty most of the time, and starting an execution costs no more. (One
-- that is worked on has no time either, and would go in and out of it.)

create index idx_wf_exec_unqueued on workflow_executions (status)
where
    status = 'PENDING'
    and available_at is null
    and guarantee = 'BEST_EFFORT_BACKGROUND';
