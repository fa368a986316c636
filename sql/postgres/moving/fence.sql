-- Before a move out of here: waits for everybody who writes. Who writes next finds that
-- all of it is being moved.

lock table
durable_workflow.workflow_executions,
durable_workflow.workflow_signals,
durable_workflow.workflow_claims,
durable_workflow.workflow_audit_log,
durable_workflow.workflow_limits,
durable_workflow.workflow_limit_uses,
durable_workflow.workflow_pauses,
durable_workflow.workflow_spreading,
durable_workflow.workflow_schedules,
durable_workflow.workflow_workers
in share row exclusive mode;
