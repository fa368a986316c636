-- What has begun under a limit with a rate. A row is kept as long as the time of the
-- rate; a row from the future is of a clock that was set back, and does not count.

-- name: insert_limit_use!
-- Something begins under a limit. No row has an earlier time than those before it.
insert into durable_workflow.workflow_limit_uses (kind, name, limit_key, used_at)
values (:kind, :name, :limit_key, :used_at);

-- name: delete_old_limit_uses!
-- Deletes a batch of what is too old to count, and what a clock that was set back has
-- left. As an array, the ids are looked up one by one.
delete from durable_workflow.workflow_limit_uses
where
    workflow_limit_use_id = any(
        array(
            (
                select old.workflow_limit_use_id
                from durable_workflow.workflow_limit_uses as old
                where
                    old.kind = :kind
                    and old.name = :name
                    and old.used_at <= :before
                order by old.used_at
                limit 100
            )
            union all
            (
                select early.workflow_limit_use_id
                from durable_workflow.workflow_limit_uses as early
                where
                    early.kind = :kind
                    and early.name = :name
                    and early.used_at > :after
                order by early.used_at
                limit 100
            )
        )
    );

-- name: load_limit_uses
-- When the last things began under a limit since a time, the latest first.
select used_at
from durable_workflow.workflow_limit_uses
where
    kind = :kind
    and name = :name
    and used_at > :since
    and used_at <= :until
order by used_at desc
limit :row_limit;

-- name: load_limit_uses_of_key
-- As load_limit_uses, of one key.
select used_at
from durable_workflow.workflow_limit_uses
where
    kind = :kind
    and name = :name
    and limit_key = :limit_key
    and used_at > :since
    and used_at <= :until
order by used_at desc
limit :row_limit;
