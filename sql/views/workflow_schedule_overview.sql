-- workflow_schedule_overview: the schedules, a row for each: when it fires next, what it
-- started last, and whether it fires at all.
--
-- schedule_name          text          the schedule
-- state                  text          ACTIVE: it fires at next_fire_at; PAUSED: a person
--                                      has stopped it; ENDED: it has no more times;
--                                      TROUBLE: no worker can compute its times
-- workflow_type          text          the workflow that it starts
-- version                integer       its version
-- cron                   text null     its expression; null where every_seconds counts
-- tz                     text          the time zone of the expression
-- every_seconds          integer null  its interval; null where cron counts
-- overlap                text          as in workflow_schedules
-- missed                 text          as in workflow_schedules
-- next_fire_at           text null     the time that is fired next; null unless ACTIVE, and
--                                      for a moment while a worker computes it
-- due_in_seconds         real null     until then; negative for one that no worker has
--                                      fired yet
-- last_fired_at          text null     the last time that was fired
-- last_execution_id      text null     what was started last
-- last_status            text null     the status of that execution; null if it is deleted
-- unfinished_executions  integer       how many of its executions are not over
-- last_skipped_at        text null     the last time that was not fired
-- buffered_at            text null     a time that is fired when the execution before it
--                                      is finished
-- ends_at                text null     after this time it fires no more
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
