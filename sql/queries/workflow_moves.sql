-- A database whose executions are moved to another one, or come from there:
-- `durable-workflow move`. What is copied, and how, stands in sql/moving.

-- name: load_moves
-- At most one move out of this database, and one into it.
-- @scan workflow_moves: at most two rows
select
    direction,
    move_id,
    other,
    started_at,
    finished_at,
    put_off
from workflow_moves
order by direction desc;

-- name: insert_move!
-- Says that a move begins, out of here or into here.
insert into workflow_moves (
    direction,
    move_id,
    other,
    started_at,
    moved_by,
    put_off
)
values (
    :direction,
    :move_id,
    :other,
    :started_at,
    :moved_by,
    :put_off
);

-- name: finish_move!
-- All has been copied and compared.
update workflow_moves
set
    finished_at = :finished_at,
    put_off = null
where direction = :direction;

-- name: delete_move!
-- A move out of this database is given up; it may be written again.
delete from workflow_moves
where
    direction = 'OUT'
    and finished_at is null;
