-- The audit log also has what people do to what is no execution: they pause and resume a
-- schedule, a workflow, a named queue or everything, and change limits. `scope` says what
-- it is, as in workflow_pauses, and `name` which one. The table is made again, since
-- SQLite cannot make a column nullable. Its rows stay.

create table new_workflow_audit_log (
    workflow_audit_id     integer primary key,
    workflow_execution_id text
    references workflow_executions (workflow_execution_id),
    act                   text    not null
    constraint act_is_not_empty check (act != ''),
    actor                 text    not null
    constraint actor_is_not_empty check (actor != ''),
    details               text
    constraint details_is_json check (details is null or json_valid(details)),
    created_at            text    not null
    default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
    constraint created_at_is_a_time check (
        created_at glob '????-??-??T??:??:??.??????Z'
    ),
    scope                 text    not null default 'EXECUTION'
    constraint scope_is_known check (
        scope = 'EXECUTION' or scope = 'WORKFLOW' or scope = 'QUEUE' or scope = 'STEP'
        or scope = 'SCHEDULE' or scope = 'ALL'
    ),
    name                  text,
    constraint either_an_execution_or_a_name check (
        (scope = 'EXECUTION') = (workflow_execution_id is not null)
        and (scope = 'EXECUTION') = (name is null)
    ),
    constraint only_everything_has_no_name check ((name = '') = (scope = 'ALL'))
) strict;

insert into new_workflow_audit_log (
    workflow_audit_id,
    workflow_execution_id,
    act,
    actor,
    details,
    created_at
)
select
    workflow_audit_id,
    workflow_execution_id,
    act,
    actor,
    details,
    created_at
from workflow_audit_log;

drop table workflow_audit_log;

alter table new_workflow_audit_log rename to workflow_audit_log;

create index idx_wf_audit_exec on workflow_audit_log (workflow_execution_id);

create index idx_wf_audit_named on workflow_audit_log (scope, name)
where name is not null;
