-- An execution that is paused holds its children. A trigger notes here that they are to
-- know what holds them, or that nothing does any more.

-- name: load_spreading$
-- An execution whose children are still to be told what holds them.
-- @scan workflow_spreading: the first one
select workflow_execution_id
from workflow_spreading
limit 1;

-- name: delete_spreading!
-- All children of an execution have been told what holds them.
delete from workflow_spreading
where workflow_execution_id = :workflow_execution_id;
