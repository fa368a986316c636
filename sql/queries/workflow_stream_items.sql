-- A stream is what an attempt of a step tells while it runs; a row is one item of it.
--
-- Statements that take a :fencing_token change nothing unless it is the token of
-- the execution's claim; null stands for a write made under no claim.

-- name: insert_stream_items!
-- An attempt of a step has put some items into its stream (a JSON array of their
-- texts), which stay in this order.
-- Changing no row means that the claim is lost.
-- @sort: of one batch, which stands in this order already
-- :fencing_token integer null
-- :items text
insert into workflow_stream_items (
    workflow_execution_id,
    branch,
    step_index,
    step_name,
    attempt,
    run_number,
    written_under,
    item,
    created_at
)
select
    :workflow_execution_id,
    :branch,
    :step_index,
    :step_name,
    :attempt,
    :run_number,
    :written_under,
    value,
    :created_at
from json_each(:items)
where
    :fencing_token is null
    or exists (
        select 1
        from workflow_claims
        where
            fencing_token = :fencing_token
            and workflow_execution_id = :workflow_execution_id
    )
order by key;

-- name: load_stream_items
-- The next items of all streams of an execution, in the order in which these were
-- written.
-- :row_limit integer
select
    workflow_stream_item_id,
    workflow_execution_id,
    branch,
    step_index,
    step_name,
    attempt,
    run_number,
    written_under,
    item,
    created_at
from workflow_stream_items
where
    workflow_execution_id = :workflow_execution_id
    and workflow_stream_item_id > :workflow_stream_item_id
order by workflow_stream_item_id
limit :row_limit;

-- name: load_last_stream_items
-- The newest items of all streams of an execution, the last one first.
-- :row_limit integer
select
    workflow_stream_item_id,
    workflow_execution_id,
    branch,
    step_index,
    step_name,
    attempt,
    run_number,
    written_under,
    item,
    created_at
from workflow_stream_items
where workflow_execution_id = :workflow_execution_id
order by workflow_stream_item_id desc
limit :row_limit;

-- name: load_stream_heads
-- Of each step of an execution, the last item of its stream up to an item.
-- @sort: once, where somebody goes on to follow one execution
select
    head.workflow_stream_item_id,
    head.workflow_execution_id,
    head.branch,
    head.step_index,
    head.step_name,
    head.attempt,
    head.run_number,
    head.written_under,
    head.item,
    head.created_at
from workflow_stream_items as head
where
    head.workflow_execution_id = :workflow_execution_id
    and head.workflow_stream_item_id in (
        select max(workflow_stream_item_id)
        from workflow_stream_items
        where
            workflow_execution_id = :workflow_execution_id
            and workflow_stream_item_id <= :workflow_stream_item_id
        group by branch, step_index
    );

-- name: delete_stream_items!
-- Deletes the streams of a batch of executions (a JSON array of ids).
-- @unfenced: of executions that are over, or that begin again in this transaction
-- :workflow_execution_ids text
delete from workflow_stream_items
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids));

-- name: forget_stream_items!
-- Deletes the streams of some attempts of an execution (a JSON array of the ids of
-- their rows in step_checkpoints), before these are forgotten.
-- @unfenced: no living worker has it, as the same transaction has seen
-- :checkpoint_ids text
delete from workflow_stream_items
where
    workflow_execution_id = :workflow_execution_id
    and (branch, step_index, attempt) in (
        select
            step_checkpoints.branch,
            step_checkpoints.step_index,
            step_checkpoints.attempt
        from step_checkpoints
        where
            step_checkpoints.id in (select value from json_each(:checkpoint_ids))
            and step_checkpoints.workflow_execution_id = :workflow_execution_id
    );

-- name: load_values_of_stream_items
-- The values of some items of streams, in the order of their numbers.
-- :after integer
-- :row_limit integer
select
    workflow_stream_item_id,
    workflow_execution_id,
    branch,
    step_index,
    attempt,
    item
from workflow_stream_items
where workflow_stream_item_id > :after
order by workflow_stream_item_id
limit :row_limit;

-- name: update_values_of_stream_item!
-- Changes the value of an item of a stream, if it is still the one that was read.
-- @unfenced: it says the same as before, and no worker changes an item
-- :former_item text
update workflow_stream_items
set item = :item
where
    workflow_stream_item_id = :workflow_stream_item_id
    and item = :former_item;
