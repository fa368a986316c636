-- The tables of `integrations.langgraph.DurableSaver`, in the schema of the store. It
-- makes them when it first writes.

-- name: create_checkpoints#
-- A row is the state of a graph after one of its steps, as LangGraph writes it. A
-- thread is one conversation. checkpoint_ns: '' for the graph, else which run of a
-- sub-graph. checkpoint_id: the later of two is the greater one. type: how LangGraph
-- has written the checkpoint, such as msgpack. metadata: JSON.
create table if not exists langgraph_checkpoints (
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
    checkpoint_id text collate "C" not null,
    parent_checkpoint_id text collate "C",
    type text not null,
    checkpoint bytea not null,
    metadata text not null,
    primary key (thread_id, checkpoint_ns, checkpoint_id),
    constraint metadata_is_json check (cast(metadata as json) is not null)
);

-- name: create_writes#
-- A row is a value that a node has returned, before the step of the graph was over.
-- checkpoint_id: of the state that the node began with. task_id, task_path: of the call
-- of the node. idx: which of its values; less than 0 for an error, an interrupt or an
-- answer. channel: where the value belongs. type: how it is written.
create table if not exists langgraph_writes (
    thread_id text collate "C" not null,
    checkpoint_ns text collate "C" not null,
    checkpoint_id text collate "C" not null,
    task_id text collate "C" not null,
    idx bigint not null,
    task_path text collate "C" not null,
    channel text not null,
    type text not null,
    value bytea not null,
    primary key (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
);

-- name: has_table$
-- Whether a table is there.
select cast(to_regclass(:name) is not null as integer);

-- name: lock$
-- Waits for others who make the tables, until their transactions end.
select pg_advisory_xact_lock(hashtextextended(:name, 0));
