-- A step under a limit writes its slot as it begins, and deletes it with its outcome. With
-- one tree in place of three, each of these transactions writes two pages less. Slots are
-- held by what runs now, so end the workers of version 23 first.

drop table if exists workflow_step_slots;

create table workflow_step_slots (
    name                  text    not null,
    fencing_token         integer not null,
    branch                text    not null,
    step_index            integer not null,
    workflow_execution_id text    not null,
    limit_key             text,
    taken_at              text    not null,
    primary key (name, fencing_token, branch, step_index),
    constraint taken_at_is_a_time
    check (taken_at glob '????-??-??T??:??:??.??????Z')
) strict, without rowid;
