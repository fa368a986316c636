-- A fork is an execution that begins with the records of another one: with those before
-- one of its steps. Nothing runs again that these records hold, and nothing of it is
-- undone by the fork: that stays with the execution that ran it.

alter table durable_workflow.workflow_executions
add column forked_from text;

alter table durable_workflow.workflow_executions
add column forked_before text;

-- Random numbers, and the clock before the first event, come from the id of an execution
-- and from its beginning. A replay of copied records needs those that were there then.

alter table durable_workflow.workflow_executions
add column replay_origin text;

-- The forks of an execution, in order.

create index idx_wf_exec_forked_from on durable_workflow.workflow_executions (
    forked_from, created_at, workflow_execution_id
)
where forked_from is not null;

-- The view workflow_overview has forked_from and forked_before.
