-- workflow_schedule_overview: the schedules, a row for each. `state` says whether it
-- fires. Of one that is ACTIVE, next_fire_at is its next time; of the others, it is null.
-- The columns that begin with last_ say what it did before.
--
-- schedule_name          text          the schedule
-- state                  text          ACTIVE: it fires at next_fire_at; PAUSED: a person
--                                      has paused it; ENDED: it has no more times;
--                                      TROUBLE: no worker can compute its times
-- workflow_type          text          the workflow that it starts
-- version                integer       the version of that workflow
-- cron                   text null     its cron expression; null if it has an interval
-- tz                     text          the time zone of the cron expression
-- every_seconds          integer null  its interval; null if it has a cron expression
-- overlap                text          as in workflow_schedules
-- missed                 text          as in workflow_schedules
-- next_fire_at           text null     the next time at which it fires. Null if it is not
--                                      ACTIVE. Also null for less than a second after
--                                      somebody has edited it, until a worker has
--                                      computed its next time
-- due_in_seconds         real null     the seconds from now until next_fire_at. Less than
--                                      0 if that time is over and no worker has fired it
-- last_fired_at          text null     the last of its times that was fired
-- last_execution_id      text null     the execution that it started last, or that a
--                                      person started from it
-- last_status            text null     the status of that execution; null if that
--                                      execution was deleted
-- unfinished_executions  integer       how many of its executions are not over
-- last_skipped_at        text null     the last of its times at which nothing was started,
--                                      because of overlap, missed or within_seconds
-- buffered_at            text null     a time that waits: it is fired when the unfinished
--                                      execution is over (overlap buffer_one and
--                                      cancel_other)
-- ends_at                text null     it fires at no time after this one
-- paused_at              text null     since when it is paused
-- paused_by              text null     who paused it
-- paused_reason          text null     why
-- trouble                text null     why no worker can compute its times

drop view if exists workflow_schedule_overview;

create view workflow_schedule_overview as
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
                round(
                    (julianday(schedule.next_fire_at) - julianday('now')) * 86400, 1
                )
    end as due_in_seconds,
    schedule.last_fired_at,
    schedule.last_execution_id,
    latest.status as last_status,
    (
        select count(*)
        from workflow_executions as unfinished
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
from workflow_schedules as schedule
left join workflow_executions as latest
    on schedule.last_execution_id = latest.workflow_execution_id;
