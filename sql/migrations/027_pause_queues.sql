-- A row of workflow_pauses with the scope QUEUE holds the executions of a named queue. The
-- table is made again, since SQLite cannot change a constraint. Its rows stay.
--
-- The views say which queues are paused, and which executions are held by that.

create table new_workflow_pauses (
    scope         text not null,
    name          text not null,
    paused_at     text not null default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
    paused_by     text not null,
    paused_reason text,
    primary key (scope, name),
    constraint scope_is_known check (
        scope = 'WORKFLOW' or scope = 'QUEUE' or scope = 'ALL'
    ),
    constraint name_is_that_of_a_workflow_or_queue check (
        (name = '') = (scope = 'ALL')
    ),
    constraint paused_at_is_a_time check (
        paused_at glob '????-??-??T??:??:??.??????Z'
    )
) strict, without rowid;

insert into new_workflow_pauses (scope, name, paused_at, paused_by, paused_reason)
select
    scope,
    name,
    paused_at,
    paused_by,
    paused_reason
from workflow_pauses;

drop table workflow_pauses;

alter table new_workflow_pauses rename to workflow_pauses;
