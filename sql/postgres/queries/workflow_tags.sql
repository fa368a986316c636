-- A tag is a name and a value that the caller gave to an execution when it was
-- started, to find it by.

-- name: insert_tags!
-- Gives an execution its tags (a JSON object).
insert into durable_workflow.workflow_tags (workflow_execution_id, name, value)
select
    :workflow_execution_id,
    tag.key,
    tag.value
from json_each_text(cast(:tags as json)) as tag (key, value);

-- name: load_tags
-- The tags of some executions (a JSON array of ids).
select
    workflow_execution_id,
    name,
    value
from durable_workflow.workflow_tags
where
    workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    )
order by workflow_execution_id, name;

-- name: delete_tags!
-- Deletes the tags of a batch of executions (a JSON array of ids).
delete from durable_workflow.workflow_tags
where
    workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    );
