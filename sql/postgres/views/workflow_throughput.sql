-- workflow_throughput: how many executions began and ended in each hour. It reads every
-- execution.
-- sql/views/workflow_throughput.sql says what each column means.

create or replace view durable_workflow.workflow_throughput as
select
    event.hour,
    workflow.workflow_type,
    count(*) filter (where event.what = 'BEGAN') as began,
    count(*) filter (where event.what = 'COMPLETED') as completed,
    count(*) filter (where event.what = 'FAILED') as failed,
    count(*) filter (where event.what = 'CANCELLED') as cancelled
from (
    select
        execution.workflow_id,
        'BEGAN' as what,
        to_char(
            execution.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:00"Z"'
        ) as hour
    from durable_workflow.workflow_executions as execution
    union all
    select
        ended.workflow_id,
        ended.status as what,
        to_char(
            ended.updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:00"Z"'
        ) as hour
    from durable_workflow.workflow_executions as ended
    where ended.status in ('COMPLETED', 'FAILED', 'CANCELLED')
) as event
left join durable_workflow.workflows as workflow
    on event.workflow_id = workflow.workflow_id
group by event.hour, workflow.workflow_type;
