-- workflow_paused: what is paused: a workflow, a named queue, everything, and executions
-- that are paused themselves. Those that are only held by the pause of one above them, of
-- their workflow, of their queue, or of everything, are not listed: the column
-- paused_scope of workflow_overview has them.
--
-- scope                  text       ALL, WORKFLOW, QUEUE or EXECUTION
-- workflow_execution_id  text null  the execution; null for the other scopes
-- workflow_type          text null  the name of the workflow; null for ALL and QUEUE
-- queue                  text null  the named queue that is paused, or in which the
--                                   execution is
-- status                 text null  of the execution, as in workflow_executions
-- paused_at              text       since when
-- paused_by              text null  who paused it
-- paused_reason          text null  why; null if that person did not say
-- age_seconds            real null  since then
-- ttl_expires_at         text null  of an execution, when it must be over: the pause does
--                                   not move it, and when it is past, the execution is
--                                   undone once it is resumed

drop view if exists workflow_paused;

create view workflow_paused as
select
    pause.scope,
    null as workflow_execution_id,
    iif(pause.scope = 'WORKFLOW', pause.name, null) as workflow_type,
    iif(pause.scope = 'QUEUE', pause.name, null) as queue,
    null as status,
    pause.paused_at,
    pause.paused_by,
    pause.paused_reason,
    round((julianday('now') - julianday(pause.paused_at)) * 86400, 1) as age_seconds,
    null as ttl_expires_at
from workflow_pauses as pause
union all
select
    'EXECUTION' as scope,
    execution.workflow_execution_id,
    workflow.workflow_type,
    execution.queue,
    execution.status,
    execution.paused_at,
    execution.paused_by,
    execution.paused_reason,
    round((julianday('now') - julianday(execution.paused_at)) * 86400, 1)
        as age_seconds,
    execution.ttl_expires_at
from workflow_executions as execution
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.paused_at is not null
    and +execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED');
