-- A claim is the right of one worker to write for one execution; its fencing
-- token is checked by every write that is made under it. No row means that
-- nobody works on the execution.

-- name: insert_claim(workflow_execution_id, worker_id, claimed_at)$
-- Claims an execution that is not final for a worker, and gives the token.
-- No row means that it is unknown or final. The unique execution id makes a second
-- claim an error: the claim of a dead worker is deleted first.
insert into workflow_claims (workflow_execution_id, worker_id, claimed_at)
select
    workflow_execution_id,
    :worker_id,
    :claimed_at
from workflow_executions
where
    workflow_execution_id = :workflow_execution_id
    and status not in ('COMPLETED', 'FAILED', 'CANCELLED')
returning fencing_token;

-- name: load_claim(workflow_execution_id)^
-- Who works on an execution.
select
    workflow_execution_id,
    worker_id,
    fencing_token
from workflow_claims
where workflow_execution_id = :workflow_execution_id;

-- name: delete_claim(workflow_execution_id, fencing_token)!
-- Lets go of an execution; changing no row means that the claim is lost already.
delete from workflow_claims
where
    fencing_token = :fencing_token
    and workflow_execution_id = :workflow_execution_id;

-- name: delete_claim_of(workflow_execution_id)!
-- Lets go of an execution that is final, whoever had it.
delete from workflow_claims
where workflow_execution_id = :workflow_execution_id;

-- name: delete_claims(workflow_execution_ids)!
-- Deletes the claims of a batch of executions (a JSON array of ids).
-- :workflow_execution_ids text
delete from workflow_claims
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids));
