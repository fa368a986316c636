-- A claim is the right of one worker to write for one execution. Claiming an
-- execution anew gives a higher fencing_token, and every write made under a
-- claim checks its token, so a worker that lost its claim can change nothing.
-- The row goes when the worker lets go of the execution or finishes it, so
-- the table holds what is being worked on, and no history.
--
-- autoincrement: a token is never used twice, even after its row is deleted.

create table workflow_claims (
    fencing_token         integer primary key autoincrement,
    workflow_execution_id text    not null unique references workflow_executions (
        workflow_execution_id
    ),
    worker_id             text    not null,
    claimed_at            text    not null
);

create index idx_wf_claim_worker on workflow_claims (worker_id);

-- error_type      class of the error behind error_message, as module:name
-- recovery_count  how often a worker took this execution over unfinished; it
--                 only grows, and an operator may set it back to 0
-- blocked_reason  why workers leave this execution alone; null when they do not

alter table workflow_executions add column error_type text;

alter table workflow_executions add column recovery_count integer not null default 0;

alter table workflow_executions add column blocked_reason text;

-- Deleting an execution looks up its timers; without this it would scan them.

create index idx_wf_timer_exec on workflow_timers (workflow_execution_id);

-- Workers look for news: the executions for which signals wait. Delivered signals
-- are not in this index, so it stays as small as what is waiting.

create index idx_wf_signal_news on workflow_signals (workflow_execution_id)
where status = 'PENDING';
