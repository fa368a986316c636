-- A stand-in: two columns of the fourth migration, which is written elsewhere and
-- takes this one's place when the branches come together.

alter table workflow_executions add column priority integer not null default 0;

alter table workflow_executions add column available_at text;
