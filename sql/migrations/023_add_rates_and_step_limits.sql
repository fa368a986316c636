-- An execution may have an id against duplicates: at most one unfinished execution of a
-- queue has it. One that is debounced has it only until it begins. What is in no queue
-- shares one set of ids.
--
-- The index does not hold what is over, so reopening an execution could find its id
-- taken: what is opened again loses its id.

alter table workflow_executions add column dedup_id text;

alter table workflow_executions add column debounced integer not null default 0
constraint debounced_is_0_or_1 check (debounced = 0 or debounced = 1);

create unique index idx_wf_exec_dedup
on workflow_executions (coalesce(queue, ''), dedup_id)
where
    dedup_id is not null
    and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and (debounced = 0 or started_at is null);

-- How many may begin within a time, and when they did. A row of workflow_limit_uses is
-- kept as long as the time of its limit.

alter table workflow_limits add column rate integer
constraint rate_is_1_or_more check (rate >= 1);

alter table workflow_limits add column rate_seconds real
constraint rate_seconds_are_more_than_0 check (rate_seconds > 0);

alter table workflow_limits add column key_rate integer
constraint key_rate_is_1_or_more check (key_rate >= 1);

alter table workflow_limits add column key_rate_seconds real
constraint key_rate_seconds_are_more_than_0 check (key_rate_seconds > 0);

create table workflow_limit_uses (
    workflow_limit_use_id integer primary key,
    kind                  text    not null,
    name                  text    not null,
    limit_key             text,
    used_at               text    not null,
    constraint used_at_is_a_time
    check (used_at glob '????-??-??T??:??:??.??????Z')
) strict;

create index idx_wf_limit_use on workflow_limit_uses (kind, name, used_at);

create index idx_wf_limit_use_key on workflow_limit_uses (
    kind, name, limit_key, used_at
)
where limit_key is not null;

-- The slots of limits of kind STEP. A row counts as long as its claim is there: so a
-- slot is free when its worker is dead, or has lost its claim.

create table workflow_step_slots (
    workflow_step_slot_id integer primary key,
    name                  text    not null,
    limit_key             text,
    fencing_token         integer not null,
    workflow_execution_id text    not null,
    branch                text    not null,
    step_index            integer not null,
    taken_at              text    not null,
    unique (fencing_token, branch, step_index),
    constraint taken_at_is_a_time
    check (taken_at glob '????-??-??T??:??:??.??????Z')
) strict;

create index idx_wf_step_slot on workflow_step_slots (name, limit_key);
