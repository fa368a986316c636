-- workflow_step_limits: the limits for steps, and how many steps run under each; also
-- those under which a step runs although somebody has deleted their rows. A limit that is
-- null is none. How many steps wait for a slot is not in the file: they wait in the
-- memory of their workers.
--
-- name           text          the name of the limit
-- is_declared    integer       1, or 0 if no row of workflow_limits has it
-- concurrency    integer null  how many of its steps run at once
-- per_key        integer null  how many of them with one key
-- rate           integer null  how many attempts begin within rate_seconds
-- rate_seconds   real null     the time of the rate
-- rate_used      integer null  how many have begun within that time
-- running        integer       how many run now: they hold a slot
-- running_keys   integer       how many keys these have
-- held_longest   text null     the execution whose step has held its slot for the longest
--                              time
-- held_step      text null     that step
-- held_since     text null     when it took the slot
-- updated_at     text null     when the limit was last changed

drop view if exists workflow_step_limits;

create view workflow_step_limits as
with held as (
    select
        slot.name,
        slot.limit_key,
        slot.workflow_execution_id,
        slot.branch,
        slot.step_index,
        slot.taken_at,
        row_number() over (
            partition by slot.name
            order by slot.taken_at asc, slot.fencing_token asc
        ) as place
    from workflow_step_slots as slot
    inner join workflow_claims as claim
        on slot.fencing_token = claim.fencing_token
),

named (name) as (
    select declared.name
    from workflow_limits as declared
    where declared.kind = 'STEP'
    union
    select held.name
    from held
)

select
    named.name,
    declared.name is not null as is_declared,
    declared.concurrency,
    declared.per_key,
    declared.rate,
    declared.rate_seconds,
    case
        when declared.rate is not null
            then (
                select count(*)
                from workflow_limit_uses as used
                where
                    used.kind = 'STEP'
                    and used.name = named.name
                    and used.used_at > strftime(
                        '%Y-%m-%dT%H:%M:%f000Z',
                        'now',
                        '-' || declared.rate_seconds || ' seconds'
                    )
            )
    end as rate_used,
    (
        select count(*)
        from held
        where held.name = named.name
    ) as running,
    (
        select count(distinct held.limit_key)
        from held
        where held.name = named.name
    ) as running_keys,
    longest.workflow_execution_id as held_longest,
    (
        select step.step_name
        from step_checkpoints as step
        where
            step.workflow_execution_id = longest.workflow_execution_id
            and step.branch = longest.branch
            and step.step_index = longest.step_index
        order by step.attempt desc
        limit 1
    ) as held_step,
    longest.taken_at as held_since,
    declared.updated_at
from named
left join workflow_limits as declared
    on declared.kind = 'STEP' and named.name = declared.name
left join held as longest
    on named.name = longest.name and longest.place = 1;
