-- What people say of an execution, and what they did to it.

-- Tags are names and values that the caller gives to an execution, to find it by: of a
-- customer, an order, a tenant. They are written once, with the execution.

create table workflow_tags (
    workflow_execution_id text not null references workflow_executions (
        workflow_execution_id
    ),
    name                  text not null
    constraint name_is_not_empty check (name != ''),
    value                 text not null,
    primary key (workflow_execution_id, name)
) strict, without rowid;

-- pick_tagged: the executions with a tag.

create index idx_wf_tag on workflow_tags (name, value, workflow_execution_id);

-- Each act of a person on an execution: who did what, and when. An act is written in
-- the transaction that does it. Signals have rows of their own, and stand there.
--
-- act     what was done: retry, unblock, cancel, acknowledge, rerun or resolve
-- actor   who did it: USER@MACHINE, or the name that the caller gave
-- details more about it, as JSON: the error that ended the execution, or why it was
--         blocked

create table workflow_audit_log (
    workflow_audit_id     integer primary key,
    workflow_execution_id text    not null references workflow_executions (
        workflow_execution_id
    ),
    act                   text    not null
    constraint act_is_not_empty check (act != ''),
    actor                 text    not null
    constraint actor_is_not_empty check (actor != ''),
    details               text
    constraint details_is_json check (details is null or json_valid(details)),
    created_at            text    not null default (
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    )
    constraint created_at_is_a_time check (
        created_at glob '????-??-??T??:??:??.??????Z'
    )
) strict;

create index idx_wf_audit_exec on workflow_audit_log (workflow_execution_id);
