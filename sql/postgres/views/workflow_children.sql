-- workflow_children: a row for each execution that another one started as its child.
-- sql/views/workflow_children.sql says what each column means.

create or replace view durable_workflow.workflow_children as
select
    child.parent_execution_id,
    child.workflow_execution_id,
    child.root_execution_id,
    workflow.workflow_type,
    workflow.version,
    child.status,
    child.status_since,
    child.on_parent_end,
    parent.status as parent_status,
    (
        select count(*)
        from durable_workflow.step_checkpoints as awaits
        where
            awaits.workflow_execution_id = child.parent_execution_id
            and awaits.step_name = '$child:' || child.workflow_execution_id
            and awaits.kind = 'SIGNAL'
            and awaits.status = 'INTENT'
    ) as parent_waits,
    child.error_type,
    child.error_message
from durable_workflow.workflow_executions as child
left join durable_workflow.workflow_executions as parent
    on child.parent_execution_id = parent.workflow_execution_id
left join durable_workflow.workflows as workflow
    on child.workflow_id = workflow.workflow_id
where child.parent_execution_id is not null;
