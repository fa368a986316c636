-- workflow_paused: what is paused: a workflow, a named queue, everything, and executions
-- that are paused themselves. Those that are only held by the pause of one above them, of
-- their workflow, of their queue, or of everything, are not listed: the column
-- paused_scope of workflow_overview has them.
-- sql/views/workflow_paused.sql says what each column means.

create or replace view durable_workflow.workflow_paused as
select
    pause.scope,
    cast(null as text) as workflow_execution_id,
    case when pause.scope = 'WORKFLOW' then pause.name end as workflow_type,
    case when pause.scope = 'QUEUE' then pause.name end as queue,
    cast(null as text) as status,
    pause.paused_at,
    pause.paused_by,
    pause.paused_reason,
    cast(
        round(
            extract(epoch from statement_timestamp() - pause.paused_at), 1
        ) as double precision
    ) as age_seconds,
    cast(null as timestamptz) as ttl_expires_at
from durable_workflow.workflow_pauses as pause
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
    cast(
        round(
            extract(epoch from statement_timestamp() - execution.paused_at), 1
        ) as double precision
    ) as age_seconds,
    execution.ttl_expires_at
from durable_workflow.workflow_executions as execution
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.paused_at is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED');
