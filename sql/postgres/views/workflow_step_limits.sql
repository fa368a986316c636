-- workflow_step_limits: the limits for steps, and how many steps run under each; also
-- those under which a step runs although somebody has deleted their rows. A limit that is
-- null is none.
-- sql/views/workflow_step_limits.sql says what each column means. is_declared is a
-- boolean.

create or replace view durable_workflow.workflow_step_limits as
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
    from durable_workflow.workflow_step_slots as slot
    inner join durable_workflow.workflow_claims as claim
        on slot.fencing_token = claim.fencing_token
),

named (name) as (
    select declared.name
    from durable_workflow.workflow_limits as declared
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
                from durable_workflow.workflow_limit_uses as used
                where
                    used.kind = 'STEP'
                    and used.name = named.name
                    and used.used_at > statement_timestamp()
                    - make_interval(secs => declared.rate_seconds)
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
        from durable_workflow.step_checkpoints as step
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
left join durable_workflow.workflow_limits as declared
    on declared.kind = 'STEP' and named.name = declared.name
left join held as longest
    on named.name = longest.name and longest.place = 1;
