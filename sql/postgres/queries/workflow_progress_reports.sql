-- The progress of a step or of a workflow function: a row is its newest report.
--
-- Statements that take a :fencing_token change nothing unless it is the token of
-- the execution's claim; null stands for a write made under no claim.

-- name: upsert_progress!
-- A step or a workflow function has reported how much of its work is done.
-- Changing no row means that the claim is lost.
-- :fencing_token integer null
insert into durable_workflow.workflow_progress_reports (
    workflow_execution_id,
    branch,
    step_index,
    step_name,
    attempt,
    done,
    total,
    note,
    reported_at
)
select
    :workflow_execution_id,
    :branch,
    :step_index,
    :step_name,
    :attempt,
    :done,
    :total,
    :note,
    :reported_at
where
    cast(:fencing_token as bigint) is null
    or exists (
        select 1
        from durable_workflow.workflow_claims
        where
            fencing_token = :fencing_token
            and workflow_execution_id = :workflow_execution_id
        for key share
    )
on conflict (workflow_execution_id, branch, step_index) do update set
    step_name = excluded.step_name,
    attempt = excluded.attempt,
    done = excluded.done,
    total = excluded.total,
    note = excluded.note,
    reported_at = excluded.reported_at;

-- name: load_progress
-- The progress of an execution: of each branch of its workflow function, and of each
-- step whose newest attempt has reported one.
select
    report.workflow_progress_report_id,
    report.workflow_execution_id,
    report.branch,
    report.step_index,
    report.step_name,
    report.attempt,
    report.done,
    report.total,
    report.note,
    report.reported_at
from durable_workflow.workflow_progress_reports as report
where
    report.workflow_execution_id = :workflow_execution_id
    and not exists (
        select 1
        from durable_workflow.step_checkpoints as later
        where
            later.workflow_execution_id = report.workflow_execution_id
            and later.branch = report.branch
            and later.step_index = report.step_index
            and later.attempt > report.attempt
    )
order by report.branch, report.step_index;

-- name: delete_progress!
-- Deletes the progress of a batch of executions (a JSON array of ids).
-- @unfenced: of executions that are over, or that begin again in this transaction
delete from durable_workflow.workflow_progress_reports
where
    workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    );

-- name: forget_progress!
-- Deletes the progress of some attempts of an execution (a JSON array of the ids of
-- their rows in step_checkpoints), before these are forgotten.
-- @unfenced: no living worker has it, as the same transaction has seen
delete from durable_workflow.workflow_progress_reports
where
    workflow_execution_id = :workflow_execution_id
    and (branch, step_index, attempt) in (
        select
            step_checkpoints.branch,
            step_checkpoints.step_index,
            step_checkpoints.attempt
        from durable_workflow.step_checkpoints
        where
            step_checkpoints.id = any(
                cast(translate(:checkpoint_ids, '[]', '{}') as bigint[])
            )
            and step_checkpoints.workflow_execution_id = :workflow_execution_id
    );

-- name: load_values_of_progress
-- The texts of some reports of progress, in the order of their numbers.
-- :after integer
-- :row_limit integer
select
    workflow_progress_report_id,
    workflow_execution_id,
    branch,
    step_index,
    note
from durable_workflow.workflow_progress_reports
where workflow_progress_report_id > :after
order by workflow_progress_report_id
limit :row_limit;

-- name: update_values_of_progress!
-- Changes the text of a report of progress, if it is still the one that was read.
-- @unfenced: it says the same as before
-- :former_note text null
update durable_workflow.workflow_progress_reports
set note = :note
where
    workflow_progress_report_id = :workflow_progress_report_id
    and note = :former_note;
