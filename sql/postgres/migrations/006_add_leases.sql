-- workflow_leases: until when a worker is taken to live that has no session of its own,
-- since it is behind a pooler. It grows with time by the worker's own word, and by the
-- clock of this server.

create table durable_workflow.workflow_leases (
    worker_id text collate "C" primary key,
    expires_at timestamptz not null
) with (fillfactor = 50);
