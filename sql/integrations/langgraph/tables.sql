-- The tables of `integrations.langgraph.DurableSaver`. It makes them when it first
-- writes, so a file has them only if a program has used it.

-- name: create_checkpoints#
-- A row is the state of a graph after one of its steps, as LangGraph writes it.
create table if not exists langgraph_checkpoints (
    thread_id            text not null,
    checkpoint_ns        text not null,
    checkpoint_id        text not null,
    parent_checkpoint_id text,
    type                 text not null,
    checkpoint           blob not null,
    metadata             text not null,
    primary key (thread_id, checkpoint_ns, checkpoint_id),
    constraint metadata_is_json check (json_valid(metadata))
) strict;

-- name: create_writes#
-- A row is a value that a node has returned, before the step of the graph was over.
create table if not exists langgraph_writes (
    thread_id     text    not null,
    checkpoint_ns text    not null,
    checkpoint_id text    not null,
    task_id       text    not null,
    idx           integer not null,
    task_path     text    not null,
    channel       text    not null,
    type          text    not null,
    value         blob    not null,
    primary key (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
) strict;

-- name: has_tables$
-- Whether the tables are there.
select count(*)
from sqlite_master
where type = 'table' and name = :name;

-- name: lock_tables$
-- Waits for nobody: the transaction has locked the whole file already.
select length(:name);
