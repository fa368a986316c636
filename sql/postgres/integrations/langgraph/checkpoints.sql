-- What `integrations.langgraph.DurableSaver` asks of its tables. Their rows are written
-- and read by LangGraph's own rules: no workflow, and so no claim, has a part in it.

-- name: put_checkpoint!
-- Saves the state of a graph after a step.
insert into langgraph_checkpoints (
    thread_id,
    checkpoint_ns,
    checkpoint_id,
    parent_checkpoint_id,
    type,
    checkpoint,
    metadata
)
values (
    :thread_id,
    :checkpoint_ns,
    :checkpoint_id,
    :parent_checkpoint_id,
    :type,
    :checkpoint,
    :metadata
)
on conflict (thread_id, checkpoint_ns, checkpoint_id) do update
    set
        parent_checkpoint_id = excluded.parent_checkpoint_id,
        type = excluded.type,
        checkpoint = excluded.checkpoint,
        metadata = excluded.metadata;

-- name: put_write!
-- Saves a value that a node has returned. One that is there stays, unless it is to be
-- replaced: of the errors, the interrupts and the answers of a task, the last one counts.
insert into langgraph_writes (
    thread_id,
    checkpoint_ns,
    checkpoint_id,
    task_id,
    idx,
    task_path,
    channel,
    type,
    value
)
values (
    :thread_id,
    :checkpoint_ns,
    :checkpoint_id,
    :task_id,
    :idx,
    :task_path,
    :channel,
    :type,
    :value
)
on conflict (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) do update
    set
        task_path = excluded.task_path,
        channel = excluded.channel,
        type = excluded.type,
        value = excluded.value
    where cast(:replaces as boolean);

-- name: get_checkpoint
-- One checkpoint of a thread.
select
    one.thread_id,
    one.checkpoint_ns,
    one.checkpoint_id,
    one.parent_checkpoint_id,
    one.type,
    one.checkpoint,
    one.metadata
from langgraph_checkpoints as one
where
    one.thread_id = :thread_id
    and one.checkpoint_ns = :checkpoint_ns
    and one.checkpoint_id = :checkpoint_id;

-- name: get_latest
-- The last checkpoint of a thread in one namespace.
select
    one.thread_id,
    one.checkpoint_ns,
    one.checkpoint_id,
    one.parent_checkpoint_id,
    one.type,
    one.checkpoint,
    one.metadata
from langgraph_checkpoints as one
where
    one.thread_id = :thread_id
    and one.checkpoint_ns = :checkpoint_ns
order by one.checkpoint_id desc
limit 1;

-- name: get_writes
-- What the nodes of one step have written, in the order in which it is applied.
select
    one.task_id,
    one.channel,
    one.type,
    one.value
from langgraph_writes as one
where
    one.thread_id = :thread_id
    and one.checkpoint_ns = :checkpoint_ns
    and one.checkpoint_id = :checkpoint_id
order by one.task_path, one.task_id, one.idx;

-- name: list_of_thread
-- The checkpoints of a thread, the newest first. Their metadata has all that :filter has.
-- A null character stays out of it: jsonb cannot hold one.
select
    one.thread_id,
    one.checkpoint_ns,
    one.checkpoint_id,
    one.parent_checkpoint_id,
    one.type,
    one.checkpoint,
    one.metadata
from langgraph_checkpoints as one
where
    one.thread_id = :thread_id
    and (cast(:checkpoint_ns as text) is null or one.checkpoint_ns = :checkpoint_ns)
    and (cast(:checkpoint_id as text) is null or one.checkpoint_id = :checkpoint_id)
    and (cast(:before as text) is null or one.checkpoint_id < :before)
    and (
        :filter = '{}'
        or not exists (
            select 1
            from jsonb_each(cast(:filter as jsonb)) as wanted
            where
                coalesce(
                    cast(replace(one.metadata, '\u0000', '') as jsonb) -> wanted.key,
                    'null'
                ) != wanted.value
        )
    )
order by one.checkpoint_id desc
limit :limit;

-- name: list_all
-- The checkpoints of all threads, the newest first. Their metadata has all that :filter has.
-- A null character stays out of it: jsonb cannot hold one.
select
    one.thread_id,
    one.checkpoint_ns,
    one.checkpoint_id,
    one.parent_checkpoint_id,
    one.type,
    one.checkpoint,
    one.metadata
from langgraph_checkpoints as one
where
    (cast(:before as text) is null or one.checkpoint_id < :before)
    and (
        :filter = '{}'
        or not exists (
            select 1
            from jsonb_each(cast(:filter as jsonb)) as wanted
            where
                coalesce(
                    cast(replace(one.metadata, '\u0000', '') as jsonb) -> wanted.key,
                    'null'
                ) != wanted.value
        )
    )
order by one.checkpoint_id desc
limit :limit;

-- name: get_namespaces
-- The namespaces of a thread: one for the graph, one for each run of a sub-graph.
select distinct one.checkpoint_ns
from langgraph_checkpoints as one
where one.thread_id = :thread_id;

-- name: delete_threads_writes!
-- Deletes what the nodes of some threads have written.
delete from langgraph_writes
where thread_id in (select jsonb_array_elements_text(cast(:thread_ids as jsonb)));

-- name: delete_threads_checkpoints!
-- Deletes the checkpoints of some threads.
delete from langgraph_checkpoints
where thread_id in (select jsonb_array_elements_text(cast(:thread_ids as jsonb)));

-- name: delete_runs_writes!
-- Deletes what the nodes have written after the checkpoints of some runs.
delete from langgraph_writes
where
    (thread_id, checkpoint_ns, checkpoint_id) in (
        select
            one.thread_id,
            one.checkpoint_ns,
            one.checkpoint_id
        from langgraph_checkpoints as one
        where
            cast(one.metadata as json) ->> 'run_id'
            in (select jsonb_array_elements_text(cast(:run_ids as jsonb)))
    );

-- name: delete_runs_checkpoints!
-- Deletes the checkpoints of some runs.
delete from langgraph_checkpoints as one
where
    cast(one.metadata as json) ->> 'run_id'
    in (select jsonb_array_elements_text(cast(:run_ids as jsonb)));

-- name: prune_writes!
-- Deletes what the nodes of a thread have written, except after the checkpoints to keep.
delete from langgraph_writes
where
    thread_id = :thread_id
    and checkpoint_ns = :checkpoint_ns
    and checkpoint_id <= :latest
    and checkpoint_id not in (select jsonb_array_elements_text(cast(:kept as jsonb)));

-- name: prune_checkpoints!
-- Deletes the checkpoints of a thread, except those to keep.
delete from langgraph_checkpoints
where
    thread_id = :thread_id
    and checkpoint_ns = :checkpoint_ns
    and checkpoint_id <= :latest
    and checkpoint_id not in (select jsonb_array_elements_text(cast(:kept as jsonb)));

-- name: copy_checkpoints!
-- Copies the checkpoints of a thread to another thread.
insert into langgraph_checkpoints (
    thread_id,
    checkpoint_ns,
    checkpoint_id,
    parent_checkpoint_id,
    type,
    checkpoint,
    metadata
)
select
    :target,
    one.checkpoint_ns,
    one.checkpoint_id,
    one.parent_checkpoint_id,
    one.type,
    one.checkpoint,
    one.metadata
from langgraph_checkpoints as one
where one.thread_id = :source
on conflict (thread_id, checkpoint_ns, checkpoint_id) do update
    set
        parent_checkpoint_id = excluded.parent_checkpoint_id,
        type = excluded.type,
        checkpoint = excluded.checkpoint,
        metadata = excluded.metadata;

-- name: copy_writes!
-- Copies what the nodes of a thread have written to another thread.
insert into langgraph_writes (
    thread_id,
    checkpoint_ns,
    checkpoint_id,
    task_id,
    idx,
    task_path,
    channel,
    type,
    value
)
select
    :target,
    one.checkpoint_ns,
    one.checkpoint_id,
    one.task_id,
    one.idx,
    one.task_path,
    one.channel,
    one.type,
    one.value
from langgraph_writes as one
where one.thread_id = :source
on conflict (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) do update
    set
        task_path = excluded.task_path,
        channel = excluded.channel,
        type = excluded.type,
        value = excluded.value;
