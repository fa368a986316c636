-- A tag is a name and a value that the caller gave to an execution when it was
-- started, to find it by.

-- name: insert_tags!
-- Gives an execution its tags (a JSON object).
insert into workflow_tags (workflow_execution_id, name, value)
select
    :workflow_execution_id,
    tag.key,
    tag.value
from json_each(:tags) as tag;

-- name: load_tags
-- The tags of some executions (a JSON array of ids).
-- :workflow_execution_ids text
select
    workflow_execution_id,
    name,
    value
from workflow_tags
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids))
order by workflow_execution_id, name;

-- name: delete_tags!
-- Deletes the tags of a batch of executions (a JSON array of ids).
-- :workflow_execution_ids text
delete from workflow_tags
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids));
