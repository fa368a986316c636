-- Schedules: when workers start executions of a workflow by themselves. A row is declared
-- by a program, and may be read and edited by hand. The time of the next start is stored,
-- so it does not depend on when a worker was started.
--
-- A worker fires a time in one transaction: it starts the execution, and writes the next
-- time, if the row is still as it was read. So a time is fired once, by any number of
-- workers. next_fire_at is null where a worker is to compute it. The words of overlap and
-- missed are those of the API.

create table workflow_schedules (
    schedule_name     text    not null primary key
    constraint schedule_name_is_not_empty check (schedule_name != ''),
    workflow_type     text    not null
    constraint workflow_type_is_not_empty check (workflow_type != ''),
    version           integer not null default 1
    constraint version_is_1_or_more check (version >= 1),
    input_data        text    not null default '[]'
    constraint input_data_is_a_list check (
        json_valid(input_data) and json_type(input_data) = 'array'
    ),
    cron              text,
    tz                text    not null default 'UTC',
    every_seconds     integer
    constraint every_seconds_is_an_interval check (
        every_seconds between 1 and 3162240000
    ),
    overlap           text    not null default 'skip'
    constraint overlap_is_known check (
        overlap = 'skip' or overlap = 'buffer_one' or overlap = 'cancel_other'
        or overlap = 'all'
    ),
    missed            text    not null default 'last'
    constraint missed_is_known check (
        missed = 'skip' or missed = 'last' or missed = 'all'
    ),
    within_seconds    integer
    constraint within_seconds_is_a_time check (
        within_seconds between 1 and 3162240000
    ),
    jitter_seconds    integer not null default 0
    constraint jitter_seconds_is_a_time check (
        jitter_seconds between 0 and 3162240000
    ),
    ends_at           text
    constraint ends_at_is_a_time check (ends_at glob '????-??-??T??:??:??.??????Z'),
    priority          integer not null default 0,
    ttl_seconds       integer
    constraint ttl_seconds_is_a_time check (ttl_seconds between 1 and 3162240000),
    tags              text    not null default '{}'
    constraint tags_is_an_object check (
        json_valid(tags) and json_type(tags) = 'object'
    ),
    next_fire_at      text
    constraint next_fire_at_is_a_time check (
        next_fire_at glob '????-??-??T??:??:??.??????Z'
    ),
    last_fired_at     text
    constraint last_fired_at_is_a_time check (
        last_fired_at glob '????-??-??T??:??:??.??????Z'
    ),
    last_execution_id text,
    last_skipped_at   text
    constraint last_skipped_at_is_a_time check (
        last_skipped_at glob '????-??-??T??:??:??.??????Z'
    ),
    buffered_at       text
    constraint buffered_at_is_a_time check (
        buffered_at glob '????-??-??T??:??:??.??????Z'
    ),
    paused_at         text
    constraint paused_at_is_a_time check (
        paused_at glob '????-??-??T??:??:??.??????Z'
    ),
    paused_by         text,
    paused_reason     text,
    ended_at          text
    constraint ended_at_is_a_time check (
        ended_at glob '????-??-??T??:??:??.??????Z'
    ),
    trouble           text,
    declared          text
    constraint declared_is_json check (declared is null or json_valid(declared)),
    created_at        text    not null default (
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    )
    constraint created_at_is_a_time check (
        created_at glob '????-??-??T??:??:??.??????Z'
    ),
    updated_at        text    not null default (
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    )
    constraint updated_at_is_a_time check (
        updated_at glob '????-??-??T??:??:??.??????Z'
    ),
    constraint schedule_has_cron_or_every check (
        (cron is null) != (every_seconds is null)
    )
) strict;

-- load_due_schedules, load_next_fire_at: an empty text sorts before all times.

create index idx_wf_schedule_due on workflow_schedules (coalesce(next_fire_at, ''))
where paused_at is null and ended_at is null and trouble is null;

-- load_buffered_schedules.

create index idx_wf_schedule_buffered on workflow_schedules (schedule_name)
where buffered_at is not null and paused_at is null and trouble is null;

-- Who edits when a schedule fires, or takes a pause away, asks a worker to compute the
-- next time anew. A statement that also sets next_fire_at has done so itself.

create trigger trg_wf_schedule_edited
after update of cron, tz, every_seconds, ends_at, paused_at on workflow_schedules
when
    new.next_fire_at is old.next_fire_at
    and (
        new.cron is not old.cron
        or new.tz is not old.tz
        or new.every_seconds is not old.every_seconds
        or new.ends_at is not old.ends_at
        or (old.paused_at is not null and new.paused_at is null)
    )
begin
    update workflow_schedules
    set
        next_fire_at = null,
        ended_at = null,
        trouble = null
    where schedule_name = new.schedule_name;
end;

-- Which schedule has started an execution; and, of each, the executions that are not
-- over, which its overlap asks for.

alter table workflow_executions add column schedule_name text;

create index idx_wf_exec_schedule on workflow_executions (
    schedule_name, workflow_execution_id
)
where
    schedule_name is not null
    and status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING');
