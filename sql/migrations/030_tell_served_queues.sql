-- A worker that serves only some of the named queues says so, as it does with the
-- workflows that it runs. A worker without a row here serves all queues, and what is in
-- none.
--
-- The view workflow_named_queues has the rates, too, and the queues that executions name
-- and nobody declares. workflow_step_limits shows the limits for steps in the same way,
-- and workflow_held_slots who holds a slot, and since when.

create table workflow_worker_queues (
    worker_number integer not null references workflow_workers (worker_number),
    queue         text    not null,
    primary key (worker_number, queue)
) strict, without rowid;
