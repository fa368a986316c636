-- A sender may give a signal a key. An execution has one signal of a key, whatever has
-- become of it: so a message that is sent twice, at once or after a crash, is stored once.
-- The key is forgotten when the row is deleted. Older rows have no key, and processes of
-- version 17 may go on beside this: they send signals without one.

alter table workflow_signals add column signal_key text
constraint signal_key_is_not_empty check (signal_key != '');

create unique index idx_wf_signal_key
on workflow_signals (workflow_execution_id, signal_key)
where signal_key is not null;
