-- What needs a person says so, with since when, why, and what comes next; and it goes
-- off the lists when a person has dealt with it.
--
-- trouble_since   when the first worker left the execution as it is, since it last made
--                 progress; it stays while another worker tries
-- acknowledged_at when a person said that a step that was cut off is dealt with; null
--                 while nobody has

alter table workflow_executions add column trouble_since text;

update workflow_executions
set trouble_since = updated_at
where
    trouble is not null
    and status not in ('COMPLETED', 'FAILED', 'CANCELLED');

alter table step_checkpoints add column acknowledged_at text;

-- The compensations that failed for good. `attempt < 1` and not
-- `attempt = 0`: SQLite compares the latter with the value of each `attempt = ?`, and
-- compiles the statement anew for each other value.

create index idx_step_cp_not_undone on step_checkpoints (workflow_execution_id)
where attempt < 1 and status = 'FAILED';

-- The steps that were cut off, without those that are dealt with. The views of both
-- come with the next migration, which makes all views anew.

drop index if exists idx_step_cp_cut_off;

create index idx_step_cp_cut_off on step_checkpoints (workflow_execution_id)
where
    status = 'FAILED'
    and error_type = 'asyncio.exceptions:CancelledError'
    and event is null
    and acknowledged_at is null;
