-- A patch is a change of the code of a workflow, by name. A row says that an execution
-- takes the new way: the code had the patch when the execution first came there. Without
-- a row, an execution that came there before takes the old way, on each replay.

create table workflow_patches (
    workflow_execution_id text    not null,
    branch                text    not null default '',
    patch_name            text    not null,
    event                 integer not null default 0,
    passed_at             text    not null
    default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
    primary key (workflow_execution_id, branch, patch_name),
    foreign key (
        workflow_execution_id
    ) references workflow_executions (workflow_execution_id),
    constraint patch_name_is_not_empty check (patch_name != ''),
    constraint event_is_0_or_more check (event >= 0),
    constraint passed_at_is_a_time
    check (passed_at glob '????-??-??T??:??:??.??????Z')
) strict, without rowid;
