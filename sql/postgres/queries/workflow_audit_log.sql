-- The audit log says what people did to executions: who, what and when. An entry is
-- written in the transaction that does what it says.

-- name: insert_audit_entry!
-- Notes what somebody did to an execution.
insert into durable_workflow.workflow_audit_log (
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
    workflow_execution_id,
    act,
    actor,
    details,
    created_at
from durable_workflow.workflow_audit_log
where workflow_execution_id = :workflow_execution_id
order by workflow_audit_id;

-- name: delete_audit_log!
-- Deletes the entries of a batch of executions (a JSON array of ids).
delete from durable_workflow.workflow_audit_log
where
    workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    );
