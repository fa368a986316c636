-- A schedule may put its executions into a named queue, whose limits then hold for them.
-- There is no reference: a queue may be deleted, and then the schedule is in trouble.

alter table workflow_schedules add column queue text;

alter table workflow_schedules add column queue_key text
constraint queue_key_has_a_queue check (queue_key is null or queue is not null);
