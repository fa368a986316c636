-- Version 1: the five tables and five indexes that every durable_workflow
-- SQLite store starts from, in whatever language it is written.
--
-- A workflow is a definition (a type name and a version). An execution is one
-- run of it. A step checkpoint records one step of an execution, before and
-- after it runs. A timer is a durable deadline, a signal a durable message to
-- an execution. Times are UTC in ISO-8601 text; data columns hold JSON text.

create table workflows (
    workflow_id   text    primary key,
    workflow_type text    not null,
    version       integer not null default 1,
    created_at    text    not null default (strftime('%Y-%m-%dT%H:%M:%f', 'now'))
);

create table workflow_executions (
    workflow_execution_id text    primary key,
    workflow_id           text    not null references workflows (workflow_id),
    status                text    not null default 'PENDING' check (
        status in (
            'PENDING',
            'RUNNING',
            'SUSPENDED',
            'COMPLETED',
            'FAILED',
            'COMPENSATING',
            'CANCELLED'
        )
    ),
    current_step          integer default 0,
    input_data            text,
    output_data           text,
    error_message         text,
    ttl_expires_at        text,
    guarantee             text    not null default 'FOREGROUND_ONLY',
    created_at            text    not null default (
        strftime('%Y-%m-%dT%H:%M:%f', 'now')
    ),
    updated_at            text    not null default (
        strftime('%Y-%m-%dT%H:%M:%f', 'now')
    )
);

create table step_checkpoints (
    id                    integer primary key autoincrement,
    workflow_execution_id text    not null references workflow_executions (
        workflow_execution_id
    ),
    step_index            integer not null,
    step_name             text    not null,
    status                text    not null check (
        status in ('INTENT', 'COMPLETED', 'FAILED', 'COMPENSATED')
    ),
    input_data            text,
    output_data           text,
    error_message         text,
    attempt               integer default 1,
    idempotency_key       text,
    compensate_ref        text,
    started_at            text,
    completed_at          text,
    unique (workflow_execution_id, step_index, attempt)
);

create table workflow_timers (
    workflow_timer_id     text primary key,
    workflow_execution_id text not null references workflow_executions (
        workflow_execution_id
    ),
    step_name             text not null,
    fire_at               text not null,
    status                text not null default 'PENDING' check (
        status in ('PENDING', 'FIRED', 'CANCELLED')
    ),
    created_at            text not null default (strftime('%Y-%m-%dT%H:%M:%f', 'now'))
);

create table workflow_signals (
    workflow_signal_id    integer primary key autoincrement,
    workflow_execution_id text    not null references workflow_executions (
        workflow_execution_id
    ),
    signal_name           text    not null,
    payload               text,
    status                text    not null default 'PENDING' check (
        status in ('PENDING', 'DELIVERED', 'EXPIRED')
    ),
    created_at            text    not null default (
        strftime('%Y-%m-%dT%H:%M:%f', 'now')
    )
);

create index idx_wf_exec_status on workflow_executions (status);

create index idx_wf_exec_workflow on workflow_executions (workflow_id);

create index idx_step_cp_exec on step_checkpoints (workflow_execution_id, step_index);

create index idx_wf_timer_fire on workflow_timers (status, fire_at);

create index idx_wf_signal_pending on workflow_signals (
    workflow_execution_id,
    signal_name,
    status
);
