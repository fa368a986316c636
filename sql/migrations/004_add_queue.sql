-- An execution that no worker has claimed says when it may be claimed, so that
-- workers find what is to be done by an index, however much else the file holds.
--
-- priority     of two executions that may be claimed, the one with the higher
--              number goes first
-- available_at from when on any worker may claim this execution; null while one
--              has it, while it is blocked, while nothing is to be done before a
--              signal comes, and when it is final. One that is FOREGROUND_ONLY
--              never has it: only an engine that starts up looks for those

alter table workflow_executions add column priority integer not null default 0;

alter table workflow_executions add column available_at text;

-- What was left unfinished may be claimed at once: a worker that takes on one
-- which has to wait finds that out and puts it back.

update workflow_executions
set available_at = updated_at
where
    guarantee = 'BEST_EFFORT_BACKGROUND'
    and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and blocked_reason is null
    and not exists (
        select 1
        from workflow_claims
        where
            workflow_claims.workflow_execution_id
            = workflow_executions.workflow_execution_id
    );

-- The queue: load_available and load_next_available_at walk it workflow by
-- workflow, the highest priority first. An execution that is started where it
-- runs is never in it.

create index idx_wf_exec_available on workflow_executions (
    workflow_id,
    priority,
    available_at
)
where available_at is not null;

-- load_unqueued, when an engine starts up: the executions that only it may take
-- over.

create index idx_wf_exec_foreground on workflow_executions (status)
where guarantee = 'FOREGROUND_ONLY';

-- load_blocked: what waits for an operator.

create index idx_wf_exec_blocked on workflow_executions (workflow_execution_id)
where blocked_reason is not null;

-- load_signals_after finds news by the primary key, so this index has no use any
-- more.

drop index idx_wf_signal_news;

-- A signal wakes an execution that nobody has, whoever inserts it.

create trigger trg_wf_signal_wakes
after insert on workflow_signals
when new.status = 'PENDING'
begin
    update workflow_executions
    set available_at = new.created_at
    where
        workflow_execution_id = new.workflow_execution_id
        and guarantee = 'BEST_EFFORT_BACKGROUND'
        and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
        and blocked_reason is null
        and (available_at is null or available_at > new.created_at)
        and not exists (
            select 1
            from workflow_claims
            where workflow_claims.workflow_execution_id = new.workflow_execution_id
        );
end;
