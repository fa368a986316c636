-- workflow_schedule_overview: the schedules, a row for each. `state` says whether it
-- fires. Of one that is ACTIVE, next_fire_at is its next time; of the others, it is null.
-- The columns that begin with last_ say what it did before.
-- sql/views/workflow_schedule_overview.sql says what each column means.

create or replace view durable_workflow.workflow_schedule_overview as
select
    schedule.schedule_name,
    case
        when schedule.paused_at is not null then 'PAUSED'
        when schedule.trouble is not null then 'TROUBLE'
        when schedule.ended_at is not null then 'ENDED'
        else 'ACTIVE'
    end as state,
    schedule.workflow_type,
    schedule.version,
    schedule.cron,
    schedule.tz,
    schedule.every_seconds,
    schedule.overlap,
    schedule.missed,
    case
        when
            schedule.paused_at is null
            and schedule.trouble is null
            and schedule.ended_at is null
            then schedule.next_fire_at
    end as next_fire_at,
    case
        when
            schedule.paused_at is null
            and schedule.trouble is null
            and schedule.ended_at is null
            then
                cast(
                    round(
                        extract(
                            epoch from schedule.next_fire_at - statement_timestamp()
                        ),
                        1
                    ) as double precision
                )
    end as due_in_seconds,
    schedule.last_fired_at,
    schedule.last_execution_id,
    latest.status as last_status,
    (
        select count(*)
        from durable_workflow.workflow_executions as unfinished
        where
            unfinished.schedule_name = schedule.schedule_name
            and unfinished.status in (
                'PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING'
            )
    ) as unfinished_executions,
    schedule.last_skipped_at,
    schedule.buffered_at,
    schedule.ends_at,
    schedule.paused_at,
    schedule.paused_by,
    schedule.paused_reason,
    schedule.trouble
from durable_workflow.workflow_schedules as schedule
left join durable_workflow.workflow_executions as latest
    on schedule.last_execution_id = latest.workflow_execution_id;
