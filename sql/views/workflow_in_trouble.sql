-- workflow_in_trouble: the executions that their worker left as they are, for a reason
-- that a person must correct. Any worker may still claim them.
--
-- workflow_execution_id  text          the execution
-- workflow_type          text null     the name of its workflow
-- version                integer null  the version of its workflow
-- status                 text          as in workflow_executions
-- trouble                text          the reason
-- place                  text null     of a mistake in the code: the line, its file and
--                                      its function, as they stand in trouble; or the
--                                      class of its error, if no line is known
-- trouble_since          text null     when the first worker left it so
-- created_at             text          when it was started
-- updated_at             text          when its last worker left it

drop view if exists workflow_in_trouble;

create view workflow_in_trouble as
select
    execution.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    execution.trouble,
    case
        when execution.trouble glob 'WorkflowCodeError: * at line *. *'
            then substr(
                execution.trouble,
                instr(execution.trouble, ' at line ') + length(' at '),
                instr(
                    substr(execution.trouble, instr(execution.trouble, ' at line ')),
                    '. '
                ) - 1 - length(' at ')
            )
        when execution.trouble glob 'WorkflowCodeError: * raised *. *'
            then substr(
                execution.trouble,
                instr(execution.trouble, ' raised ') + length(' raised '),
                min(
                    instr(
                        substr(
                            execution.trouble,
                            instr(execution.trouble, ' raised ') + length(' raised ')
                        ) || ':',
                        ':'
                    ),
                    instr(
                        substr(
                            execution.trouble,
                            instr(execution.trouble, ' raised ') + length(' raised ')
                        ) || '. ',
                        '. '
                    )
                ) - 1
            )
    end as place,
    execution.trouble_since,
    execution.created_at,
    execution.updated_at
from workflow_executions as execution
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.trouble is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED');
