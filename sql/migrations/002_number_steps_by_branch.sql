-- Steps that run side by side are numbered per branch, each branch from 0, so
-- that a step's identity (branch, step_index) is the same on every replay.
-- The main line of an execution is the branch named ''.
--
-- The table is rebuilt, since a unique constraint cannot be changed in place.
-- idx_step_cp_exec becomes the unique index itself: one index where there were
-- two, and half the index writes for a step.
--
-- kind       what the workflow asked for: a STEP with a side effect, a durable
--            SLEEP, or the wait for a SIGNAL
-- error_type class of the error behind error_message, as module:name
-- due_at     when a SLEEP or the wait for a SIGNAL ends, and when a FAILED attempt
--            is retried; null where nothing is due

create table new_step_checkpoints (
    id                    integer primary key,
    workflow_execution_id text    not null references workflow_executions (
        workflow_execution_id
    ),
    branch                text    not null default '',
    step_index            integer not null,
    attempt               integer not null default 1,
    step_name             text    not null,
    kind                  text    not null default 'STEP'
    constraint step_checkpoints_kind check (kind in ('STEP', 'SLEEP', 'SIGNAL')),
    status                text    not null
    constraint step_checkpoints_status check (
        status in ('INTENT', 'COMPLETED', 'FAILED', 'COMPENSATED')
    ),
    input_data            text,
    output_data           text,
    error_type            text,
    error_message         text,
    idempotency_key       text,
    compensate_ref        text,
    started_at            text,
    completed_at          text,
    due_at                text
);

insert into new_step_checkpoints (
    id,
    workflow_execution_id,
    step_index,
    attempt,
    step_name,
    status,
    input_data,
    output_data,
    error_message,
    idempotency_key,
    compensate_ref,
    started_at,
    completed_at
)
select
    id,
    workflow_execution_id,
    step_index,
    coalesce(attempt, 1),
    step_name,
    status,
    input_data,
    output_data,
    error_message,
    idempotency_key,
    compensate_ref,
    started_at,
    completed_at
from step_checkpoints
order by id;

drop table step_checkpoints;

alter table new_step_checkpoints rename to step_checkpoints;

create unique index idx_step_cp_exec on step_checkpoints (
    workflow_execution_id,
    branch,
    step_index,
    attempt
);
