-- workflow_children: a row for each execution that another one started as its child.
--
-- parent_execution_id    text       the parent
-- workflow_execution_id  text       the child
-- root_execution_id      text null  the execution at the top of the tree
-- workflow_type          text null  the name of the child's workflow
-- version                integer null  the version of the child's workflow
-- status                 text       of the child
-- status_since           text       since when the child has it
-- on_parent_end          text null  cancel or detach: what the child does when its parent
--                                   is undone or over
-- parent_status          text null  of the parent; null if it has been deleted
-- parent_waits           integer    how many waits of the parent for the child are open
-- error_type             text null  the class of the error that ended the child
-- error_message          text null  what that error said

drop view if exists workflow_children;

create view workflow_children as
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
        from step_checkpoints as awaits
        where
            awaits.workflow_execution_id = child.parent_execution_id
            and awaits.step_name = '$child:' || child.workflow_execution_id
            and awaits.kind = 'SIGNAL'
            and awaits.status = 'INTENT'
    ) as parent_waits,
    child.error_type,
    child.error_message
from workflow_executions as child
left join workflow_executions as parent
    on child.parent_execution_id = parent.workflow_execution_id
left join workflows as workflow
    on child.workflow_id = workflow.workflow_id
where child.parent_execution_id is not null;
