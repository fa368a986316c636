-- workflow_patches: a patch that an execution has passed, as on SQLite.

create table durable_workflow.workflow_patches (
    workflow_execution_id text collate "C" not null,
    branch text collate "C" not null default '',
    patch_name text collate "C" not null,
    event bigint not null default 0,
    passed_at timestamptz not null default now(),
    foreign key (
        workflow_execution_id
    ) references durable_workflow.workflow_executions (workflow_execution_id),
    primary key (workflow_execution_id, branch, patch_name),
    constraint patch_name_is_not_empty check (patch_name != ''),
    constraint event_is_0_or_more check (event >= 0)
);
