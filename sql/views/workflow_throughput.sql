-- workflow_throughput: how many executions began and ended in each hour. It reads every
-- execution.
--
-- hour           text       the hour, in UTC, as 2030-01-01T00:00Z
-- workflow_type  text null  the name of the workflow
-- began          integer    how many were started in it
-- completed      integer    how many ended COMPLETED
-- failed         integer    how many ended FAILED
-- cancelled      integer    how many ended CANCELLED

drop view if exists workflow_throughput;

create view workflow_throughput as
select
    event.hour,
    workflow.workflow_type,
    sum(event.what = 'BEGAN') as began,
    sum(event.what = 'COMPLETED') as completed,
    sum(event.what = 'FAILED') as failed,
    sum(event.what = 'CANCELLED') as cancelled
from (
    select
        workflow_id,
        'BEGAN' as what,
        substr(created_at, 1, 13) || ':00Z' as hour
    from workflow_executions
    union all
    select
        workflow_id,
        status as what,
        substr(updated_at, 1, 13) || ':00Z' as hour
    from workflow_executions
    where status in ('COMPLETED', 'FAILED', 'CANCELLED')
) as event
left join workflows as workflow
    on event.workflow_id = workflow.workflow_id
group by event.hour, workflow.workflow_type;
