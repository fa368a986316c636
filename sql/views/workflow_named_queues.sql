-- workflow_named_queues: the named queues, with their limits and what is in them. A
-- limit that is null is none.
--
-- queue            text          the name of the queue
-- concurrency      integer null  how many of its executions run at once
-- per_worker       integer null  how many of them in one worker
-- per_key          integer null  how many of them with one key
-- running          integer       how many run now: they hold a slot
-- due              integer       how many wait for a slot, or for a worker, or for the
--                                end of a pause
-- due_since        text null     since when the first of them has been due
-- due_age_seconds  real null     how long ago that was: the age of the queue
-- later            integer       how many are to be claimed at a later time
-- running_longest  text null     the execution that has held its slot for the longest
--                                time
-- running_since    text null     when it was claimed
-- paused_at        text null     since when the queue is paused; null if it is not
-- paused_by        text null     who paused it
-- paused_reason    text null     why; null if that person did not say

drop view if exists workflow_named_queues;

create view workflow_named_queues as
with counted as (
    select
        queue.name as queue,
        queue.concurrency,
        queue.per_worker,
        queue.per_key,
        (
            select count(*)
            from workflow_claims as claim
            where claim.queue = queue.name
        ) as running,
        (
            select count(*)
            from workflow_executions as execution
            where
                execution.queue = queue.name
                and execution.available_at <= strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
        ) as due,
        (
            select min(execution.available_at)
            from workflow_executions as execution
            where
                execution.queue = queue.name
                and execution.available_at <= strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
        ) as due_since,
        (
            select count(*)
            from workflow_executions as execution
            where
                execution.queue = queue.name
                and execution.available_at > strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
        ) as later,
        (
            select min(claim.fencing_token)
            from workflow_claims as claim
            where claim.queue = queue.name
        ) as first_token
    from workflow_limits as queue
    where queue.kind = 'QUEUE'
)

select
    counted.queue,
    counted.concurrency,
    counted.per_worker,
    counted.per_key,
    counted.running,
    counted.due,
    counted.due_since,
    round((julianday('now') - julianday(counted.due_since)) * 86400, 1)
        as due_age_seconds,
    counted.later,
    longest.workflow_execution_id as running_longest,
    longest.claimed_at as running_since,
    pause.paused_at,
    pause.paused_by,
    pause.paused_reason
from counted
left join workflow_claims as longest
    on counted.first_token = longest.fencing_token
left join workflow_pauses as pause
    on pause.scope = 'QUEUE' and counted.queue = pause.name;
