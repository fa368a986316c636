-- The tables of `integrations.langgraph.DurableSaver`. It makes them when it first
-- writes, so a file has them only if a program has used it.

-- name: create_checkpoints#
-- A row is the state of a graph after one of its steps, as LangGraph writes it. A
-- thread is one conversation. checkpoint_ns: '' for the graph, else which run of a
-- sub-graph. checkpoint_id: the later of two is the greater one. type: how LangGraph
-- has written the checkpoint, such as msgpack. metadata: JSON.
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
-- checkpoint_id: of the state that the node began with. task_id, task_path: of the call
-- of the node. idx: which of its values; less than 0 for an error, an interrupt or an
-- answer. channel: where the value belongs. type: how it is written.
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

-- name: has_table$
-- Whether a table is there.
select count(*)
from sqlite_master
where type = 'table' and name = :name;

-- name: lock$
-- Waits for nobody: the transaction has locked the whole file already.
select length(:name);
