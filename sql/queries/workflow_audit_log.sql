-- The audit log says what people did to executions, and to schedules, workflows, queues
-- and limits: who, what and when. An entry is written in the transaction that does what
-- it says.

-- name: insert_audit_entry!
-- Notes what somebody did to an execution.
insert into workflow_audit_log (
    workflow_execution_id,
    act,
    actor,
    details,
    created_at
)
values (
    :workflow_execution_id,
    :act,
    :actor,
    :details,
    :created_at
);

-- name: load_audit_log
-- What people did to one execution, in order.
select
    workflow_audit_id,
    act,
    actor,
    details,
    created_at
from workflow_audit_log
where workflow_execution_id = :workflow_execution_id
order by workflow_audit_id;

-- name: delete_audit_log!
-- Deletes the entries of a batch of executions (a JSON array of ids).
-- :workflow_execution_ids text
delete from workflow_audit_log
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids));

-- name: insert_change_entry!
-- Notes what somebody did to what is not an execution.
insert into workflow_audit_log (scope, name, act, actor, details, created_at)
values (:scope, :name, :act, :actor, :details, :created_at);

-- name: load_changes
-- What people did to one schedule, workflow, queue or limit, or to everything.
select
    workflow_audit_id,
    act,
    actor,
    details,
    created_at
from workflow_audit_log
where
    scope = :scope
    and name = :name
order by workflow_audit_id;

-- name: delete_old_changes!
-- Deletes a batch of the entries about what is not an execution, from before a time.
-- @scan workflow_audit_log: an index of what people did to something else
-- :before text
-- :batch_size integer
delete from workflow_audit_log
where
    workflow_audit_id in (
        select old.workflow_audit_id
        from workflow_audit_log as old
        where
            old.name is not null
            and old.created_at < :before
        limit :batch_size
    );

-- name: load_values_of_acts
-- The values of some acts of the audit log, in the order of their numbers.
-- :after integer
-- :row_limit integer
select
    workflow_audit_id,
    workflow_execution_id,
    scope,
    name,
    act,
    created_at,
    details
from workflow_audit_log
where workflow_audit_id > :after
order by workflow_audit_id
limit :row_limit;

-- name: update_values_of_act!
-- Changes the details of an act of the audit log, if they are those that were read.
-- :former_details text null
update workflow_audit_log
set
    details = :details
where
    workflow_audit_id = :workflow_audit_id
    and details is :former_details;
