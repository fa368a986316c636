-- A time is one that Python and SQLite can read, too: neither infinite, nor before the year
-- 1, nor after the year 9999. The rows that are there are not looked through: `doctor`
-- names those with such a time.

alter table durable_workflow.step_checkpoints
add constraint acknowledged_at_is_a_time check (
    acknowledged_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint completed_at_is_a_time check (
    completed_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint due_at_is_a_time check (
    due_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint started_at_is_a_time check (
    started_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflow_audit_log
add constraint created_at_is_a_time check (
    created_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflow_claims
add constraint claimed_at_is_a_time check (
    claimed_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflow_executions
add constraint available_at_is_a_time check (
    available_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint created_at_is_a_time check (
    created_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint paused_at_is_a_time check (
    paused_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint started_at_is_a_time check (
    started_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint status_since_is_a_time check (
    status_since between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint trouble_since_is_a_time check (
    trouble_since between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint ttl_expires_at_is_a_time check (
    ttl_expires_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint updated_at_is_a_time check (
    updated_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflow_limit_uses
add constraint used_at_is_a_time check (
    used_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflow_limits
add constraint created_at_is_a_time check (
    created_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint updated_at_is_a_time check (
    updated_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflow_moves
add constraint finished_at_is_a_time check (
    finished_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint started_at_is_a_time check (
    started_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflow_patches
add constraint passed_at_is_a_time check (
    passed_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflow_pauses
add constraint paused_at_is_a_time check (
    paused_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflow_schedules
add constraint buffered_at_is_a_time check (
    buffered_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint created_at_is_a_time check (
    created_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint ended_at_is_a_time check (
    ended_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint ends_at_is_a_time check (
    ends_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint last_fired_at_is_a_time check (
    last_fired_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint last_skipped_at_is_a_time check (
    last_skipped_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint next_fire_at_is_a_time check (
    next_fire_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint paused_at_is_a_time check (
    paused_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint updated_at_is_a_time check (
    updated_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflow_signals
add constraint created_at_is_a_time check (
    created_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflow_step_slots
add constraint taken_at_is_a_time check (
    taken_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflow_timers
add constraint created_at_is_a_time check (
    created_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint fire_at_is_a_time check (
    fire_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflow_workers
add constraint seen_dead_at_is_a_time check (
    seen_dead_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid,
add constraint started_at_is_a_time check (
    started_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;

alter table durable_workflow.workflows
add constraint created_at_is_a_time check (
    created_at between '0001-01-01 00:00+00' and '9999-12-31 23:59:59.999999+00'
) not valid;
