-- How much there is to be moved.

-- name: count_rows
select
    'workflows' as table_name,
    count(*) as number_of_rows
from workflows
union all
select
    'workflow_executions' as table_name,
    count(*) as number_of_rows
from workflow_executions
union all
select
    'step_checkpoints' as table_name,
    count(*) as number_of_rows
from step_checkpoints
union all
select
    'workflow_timers' as table_name,
    count(*) as number_of_rows
from workflow_timers
union all
select
    'workflow_signals' as table_name,
    count(*) as number_of_rows
from workflow_signals
union all
select
    'workflow_patches' as table_name,
    count(*) as number_of_rows
from workflow_patches
union all
select
    'workflow_stream_items' as table_name,
    count(*) as number_of_rows
from workflow_stream_items
union all
select
    'workflow_progress_reports' as table_name,
    count(*) as number_of_rows
from workflow_progress_reports
union all
select
    'workflow_tags' as table_name,
    count(*) as number_of_rows
from workflow_tags
union all
select
    'workflow_audit_log' as table_name,
    count(*) as number_of_rows
from workflow_audit_log
union all
select
    'workflow_limits' as table_name,
    count(*) as number_of_rows
from workflow_limits
union all
select
    'workflow_limit_uses' as table_name,
    count(*) as number_of_rows
from workflow_limit_uses
union all
select
    'workflow_pauses' as table_name,
    count(*) as number_of_rows
from workflow_pauses
union all
select
    'workflow_spreading' as table_name,
    count(*) as number_of_rows
from workflow_spreading
union all
select
    'workflow_schedules' as table_name,
    count(*) as number_of_rows
from workflow_schedules
union all
select
    'workflow_workers' as table_name,
    count(*) as number_of_rows
from workflow_workers
union all
select
    'workflow_worker_workflows' as table_name,
    count(*) as number_of_rows
from workflow_worker_workflows
union all
select
    'workflow_worker_queues' as table_name,
    count(*) as number_of_rows
from workflow_worker_queues;
