-- workflow_in_trouble: the executions that their worker left as they are, for a reason
-- that a person must correct. Any worker may still claim them.
-- sql/views/workflow_in_trouble.sql says what each column means. A regular expression
-- finds the place, where SQLite must cut it out.

create or replace view durable_workflow.workflow_in_trouble as
select
    execution.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    execution.trouble,
    case
        when execution.trouble ~ '^WorkflowCodeError: .* at line .*\. '
            then substring(execution.trouble from '.*? at (line .*?)\. ')
        when execution.trouble ~ '^WorkflowCodeError: .* raised .*\. '
            then substring(execution.trouble from '.*? raised (.*?)(?::|\. |$)')
    end as place,
    execution.trouble_since,
    execution.created_at,
    execution.updated_at
from durable_workflow.workflow_executions as execution
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.trouble is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED');
