-- What people ask of a database: the command line and the dashboard read with these,
-- and change nothing. They must be quick with a million executions. So each reads as
-- many rows as it gives, or an index alone; one that reads more says so. The views that
-- they read are in sql/postgres/views.
--
-- The server plans each of them for the values that it is given: `pick_newest` takes
-- another way where no status is asked for.
--
-- row_number is a column here; on SQLite it is the rowid. A :before_time that does not
-- look like a time stands for the end of all times, and an empty :created_from for
-- their beginning. SQLite sorts nulls before all else, and so `nulls first`.

-- name: count_executions
-- How many executions there are of each workflow in each status. Reads an index of
-- the table from end to end.
select
    counted.workflow_id,
    workflow.workflow_type,
    workflow.version,
    counted.status,
    counted.total
from (
    select
        status,
        workflow_id,
        count(*) as total
    from durable_workflow.workflow_executions
    group by status, workflow_id
) as counted
left join durable_workflow.workflows as workflow
    on counted.workflow_id = workflow.workflow_id
order by
    workflow.workflow_type nulls first,
    workflow.version nulls first,
    counted.status;

-- name: pick_newest
-- The newest executions that come before a place in the order of creation. It goes
-- through the pairs of status and workflow in the index, and takes the newest of each
-- pair, and of these the newest. So every page costs the same.
-- :statuses text null
-- :types text null
-- :version integer null
-- :id_from text null
-- :id_before text null
with recursive pairs (status, workflow_id) as (
    (
        select
            foremost.status,
            foremost.workflow_id
        from durable_workflow.workflow_executions as foremost
        order by foremost.status asc, foremost.workflow_id asc
        limit 1
    )
    union all
    select
        following.status,
        following.workflow_id
    from pairs
    cross join lateral (
        select
            next_one.status,
            next_one.workflow_id
        from durable_workflow.workflow_executions as next_one
        where
            (next_one.status, next_one.workflow_id)
            > (pairs.status, pairs.workflow_id)
        order by next_one.status asc, next_one.workflow_id asc
        limit 1
    ) as following
),

wanted (status, workflow_id) as (
    select
        pairs.status,
        pairs.workflow_id
    from pairs
    left join durable_workflow.workflows as workflow
        on pairs.workflow_id = workflow.workflow_id
    where
        (
            cast(:statuses as text) is null
            or pairs.status = any(
                array(select json_array_elements_text(cast(:statuses as json)))
            )
        )
        and (
            cast(:types as text) is null
            or workflow.workflow_type = any(
                array(select json_array_elements_text(cast(:types as json)))
            )
        )
        and (cast(:version as bigint) is null or workflow.version = :version)
)

select
    execution.row_number,
    execution.workflow_execution_id,
    execution.created_at
from wanted
cross join
    lateral (
        select
            newest.row_number,
            newest.workflow_execution_id,
            newest.created_at
        from durable_workflow.workflow_executions as newest
        where
            newest.status = wanted.status
            and newest.workflow_id = wanted.workflow_id
            and (
                cast(:id_from as text) is null
                or (
                    newest.workflow_execution_id >= :id_from
                    and newest.workflow_execution_id < :id_before
                )
            )
            and newest.created_at >= coalesce(
                cast(nullif(:created_from, '') as timestamptz), '-infinity'
            )
            and (newest.created_at, newest.row_number) < (
                coalesce(
                    cast(substring(:before_time from '^[-i\d].*') as timestamptz),
                    'infinity'
                ),
                :before_rowid
            )
        order by newest.created_at desc, newest.row_number desc
        limit :row_limit
    ) as execution
order by execution.created_at desc, execution.row_number desc
limit :row_limit;

-- name: count_ids$
-- How many executions have an id in a range, counted no further than to a limit.
select count(*) as total
from (
    select workflow_execution_id
    from durable_workflow.workflow_executions
    where workflow_execution_id >= :id_from and workflow_execution_id < :id_before
    limit :at_most
) as counted;

-- name: pick_in_trouble
-- As pick_newest, but only executions in trouble, by an index that holds no others. All
-- else that is asked for is looked at in these, one after the other.
-- :statuses text null
-- :types text null
-- :version integer null
-- :id_from text null
-- :id_before text null
select
    execution.row_number,
    execution.workflow_execution_id,
    execution.created_at
from durable_workflow.workflow_executions as execution
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.trouble is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
    and (
        cast(:statuses as text) is null
        or execution.status = any(
            array(select json_array_elements_text(cast(:statuses as json)))
        )
    )
    and (
        cast(:types as text) is null
        or workflow.workflow_type = any(
            array(select json_array_elements_text(cast(:types as json)))
        )
    )
    and (cast(:version as bigint) is null or workflow.version = :version)
    and (
        cast(:id_from as text) is null
        or (
            execution.workflow_execution_id >= :id_from
            and execution.workflow_execution_id < :id_before
        )
    )
    and execution.created_at >= coalesce(
        cast(nullif(:created_from, '') as timestamptz), '-infinity'
    )
    and (execution.created_at, execution.row_number) < (
        coalesce(
            cast(substring(:before_time from '^[-i\d].*') as timestamptz), 'infinity'
        ),
        :before_rowid
    )
order by execution.created_at desc, execution.row_number desc
limit :row_limit;

-- name: pick_paused
-- As pick_newest, but only executions that are paused themselves, by an index that has
-- no others. All else that is asked for is looked at in these, one after the other.
-- :statuses text null
-- :types text null
-- :version integer null
-- :id_from text null
-- :id_before text null
select
    execution.row_number,
    execution.workflow_execution_id,
    execution.created_at
from durable_workflow.workflow_executions as execution
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.paused_at is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
    and (
        cast(:statuses as text) is null
        or execution.status = any(
            array(select json_array_elements_text(cast(:statuses as json)))
        )
    )
    and (
        cast(:types as text) is null
        or workflow.workflow_type = any(
            array(select json_array_elements_text(cast(:types as json)))
        )
    )
    and (cast(:version as bigint) is null or workflow.version = :version)
    and (
        cast(:id_from as text) is null
        or (
            execution.workflow_execution_id >= :id_from
            and execution.workflow_execution_id < :id_before
        )
    )
    and execution.created_at >= coalesce(
        cast(nullif(:created_from, '') as timestamptz), '-infinity'
    )
    and (execution.created_at, execution.row_number) < (
        coalesce(
            cast(substring(:before_time from '^[-i\d].*') as timestamptz), 'infinity'
        ),
        :before_rowid
    )
order by execution.created_at desc, execution.row_number desc
limit :row_limit;

-- name: pick_among
-- As pick_newest, but only executions of one kind, by an index that holds no others:
-- 'blocked', 'not undone' (a compensation failed for good), 'tagged', or 'in range',
-- which is for a range of ids. There are also 'child' (of the execution relative) and
-- 'tree' (relative, and what is below it). Looks at all of these; the caller has
-- counted those in the range.
-- :tag_name text null
-- :tag_value text null
-- :relative text null
-- :statuses text null
-- :types text null
-- :version integer null
-- :id_from text null
-- :id_before text null
with recursive tree (workflow_execution_id) as (
    select cast(:relative as text) collate "C" as workflow_execution_id
    where :among = 'tree'
    union
    select below.workflow_execution_id
    from tree
    inner join durable_workflow.workflow_executions as below
        on tree.workflow_execution_id = below.parent_execution_id
),

candidate (workflow_execution_id) as (
    select blocked.workflow_execution_id
    from durable_workflow.workflow_executions as blocked
    where
        :among = 'blocked'
        and blocked.blocked_reason is not null
        and blocked.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
    union all
    select distinct not_undone.workflow_execution_id
    from durable_workflow.step_checkpoints as not_undone
    where
        :among = 'not undone'
        and not_undone.attempt < 1
        and not_undone.status = 'FAILED'
    union all
    select tag.workflow_execution_id
    from durable_workflow.workflow_tags as tag
    where
        :among = 'tagged'
        and tag.name = :tag_name
        and tag.value = :tag_value
    union all
    select child.workflow_execution_id
    from durable_workflow.workflow_executions as child
    where
        :among = 'child'
        and child.parent_execution_id = :relative
    union all
    select tree.workflow_execution_id
    from tree
    union all
    select in_range.workflow_execution_id
    from durable_workflow.workflow_executions as in_range
    where
        :among = 'in range'
        and in_range.workflow_execution_id >= :id_from
        and in_range.workflow_execution_id < :id_before
)

select
    execution.row_number,
    execution.workflow_execution_id,
    execution.created_at
from candidate
inner join durable_workflow.workflow_executions as execution
    on candidate.workflow_execution_id = execution.workflow_execution_id
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    (
        cast(:statuses as text) is null
        or execution.status = any(
            array(select json_array_elements_text(cast(:statuses as json)))
        )
    )
    and (
        cast(:types as text) is null
        or workflow.workflow_type = any(
            array(select json_array_elements_text(cast(:types as json)))
        )
    )
    and (cast(:version as bigint) is null or workflow.version = :version)
    and (
        cast(:id_from as text) is null
        or (
            execution.workflow_execution_id >= :id_from
            and execution.workflow_execution_id < :id_before
        )
    )
    and execution.created_at >= coalesce(
        cast(nullif(:created_from, '') as timestamptz), '-infinity'
    )
    and (execution.created_at, execution.row_number) < (
        coalesce(
            cast(substring(:before_time from '^[-i\d].*') as timestamptz), 'infinity'
        ),
        :before_rowid
    )
order by execution.created_at desc, execution.row_number desc
limit :row_limit;

-- name: pick_with_error
-- As pick_newest, but only executions that have a text in their error or trouble.
-- Or in the error after which they wait for their next attempt. Three indexes hold
-- these: one for errors, one for the trouble of the unfinished, one for attempts that
-- were to be made again. Those COMPENSATING are few.
-- :statuses text null
-- :types text null
-- :version integer null
-- :id_from text null
-- :id_before text null
select
    found.row_number,
    found.workflow_execution_id,
    found.created_at
from (
    (
        select
            failed.row_number,
            failed.workflow_execution_id,
            failed.created_at
        from durable_workflow.workflow_executions as failed
        left join durable_workflow.workflows as workflow
            on failed.workflow_id = workflow.workflow_id
        where
            failed.error_message is not null
            and (
                strpos(lower(failed.error_type), lower(:error_text)) > 0
                or strpos(lower(failed.error_message), lower(:error_text)) > 0
            )
            and (
                cast(:statuses as text) is null
                or failed.status = any(
                    array(select json_array_elements_text(cast(:statuses as json)))
                )
            )
            and (
                cast(:types as text) is null
                or workflow.workflow_type = any(
                    array(select json_array_elements_text(cast(:types as json)))
                )
            )
            and (cast(:version as bigint) is null or workflow.version = :version)
            and (
                cast(:id_from as text) is null
                or (
                    failed.workflow_execution_id >= :id_from
                    and failed.workflow_execution_id < :id_before
                )
            )
            and failed.created_at >= coalesce(
                cast(nullif(:created_from, '') as timestamptz), '-infinity'
            )
            and (failed.created_at, failed.row_number) < (
                coalesce(
                    cast(substring(:before_time from '^[-i\d].*') as timestamptz),
                    'infinity'
                ),
                :before_rowid
            )
        order by failed.created_at desc, failed.row_number desc
        limit :row_limit
    )
    union
    (
        select
            troubled.row_number,
            troubled.workflow_execution_id,
            troubled.created_at
        from durable_workflow.workflow_executions as troubled
        left join durable_workflow.workflows as workflow
            on troubled.workflow_id = workflow.workflow_id
        where
            troubled.trouble is not null
            and troubled.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
            and strpos(lower(troubled.trouble), lower(:error_text)) > 0
            and (
                cast(:statuses as text) is null
                or troubled.status = any(
                    array(select json_array_elements_text(cast(:statuses as json)))
                )
            )
            and (
                cast(:types as text) is null
                or workflow.workflow_type = any(
                    array(select json_array_elements_text(cast(:types as json)))
                )
            )
            and (cast(:version as bigint) is null or workflow.version = :version)
            and (
                cast(:id_from as text) is null
                or (
                    troubled.workflow_execution_id >= :id_from
                    and troubled.workflow_execution_id < :id_before
                )
            )
            and troubled.created_at >= coalesce(
                cast(nullif(:created_from, '') as timestamptz), '-infinity'
            )
            and (troubled.created_at, troubled.row_number) < (
                coalesce(
                    cast(substring(:before_time from '^[-i\d].*') as timestamptz),
                    'infinity'
                ),
                :before_rowid
            )
        order by troubled.created_at desc, troubled.row_number desc
        limit :row_limit
    )
    union
    (
        select
            waiting.row_number,
            waiting.workflow_execution_id,
            waiting.created_at
        from durable_workflow.workflow_executions as waiting
        left join durable_workflow.workflows as workflow
            on waiting.workflow_id = workflow.workflow_id
        where
            waiting.workflow_execution_id in (
                select again.workflow_execution_id
                from durable_workflow.step_checkpoints as again
                where
                    again.status = 'FAILED'
                    and again.kind = 'STEP'
                    and again.due_at is not null
                    and (
                        strpos(lower(again.error_type), lower(:error_text)) > 0
                        or strpos(lower(again.error_message), lower(:error_text)) > 0
                    )
                    and not exists (
                        select 1
                        from durable_workflow.step_checkpoints as later
                        where
                            later.workflow_execution_id = again.workflow_execution_id
                            and later.branch = again.branch
                            and later.step_index = again.step_index
                            and later.attempt > again.attempt
                    )
            )
            and waiting.status in ('PENDING', 'RUNNING', 'SUSPENDED')
            and (
                cast(:statuses as text) is null
                or waiting.status = any(
                    array(select json_array_elements_text(cast(:statuses as json)))
                )
            )
            and (
                cast(:types as text) is null
                or workflow.workflow_type = any(
                    array(select json_array_elements_text(cast(:types as json)))
                )
            )
            and (cast(:version as bigint) is null or workflow.version = :version)
            and (
                cast(:id_from as text) is null
                or (
                    waiting.workflow_execution_id >= :id_from
                    and waiting.workflow_execution_id < :id_before
                )
            )
            and waiting.created_at >= coalesce(
                cast(nullif(:created_from, '') as timestamptz), '-infinity'
            )
            and (waiting.created_at, waiting.row_number) < (
                coalesce(
                    cast(substring(:before_time from '^[-i\d].*') as timestamptz),
                    'infinity'
                ),
                :before_rowid
            )
        order by waiting.created_at desc, waiting.row_number desc
        limit :row_limit
    )
    union
    (
        select
            undoing.row_number,
            undoing.workflow_execution_id,
            undoing.created_at
        from durable_workflow.workflow_executions as undoing
        left join durable_workflow.workflows as workflow
            on undoing.workflow_id = workflow.workflow_id
        where
            undoing.status = 'COMPENSATING'
            and exists (
                select 1
                from durable_workflow.step_checkpoints as undone
                where
                    undone.workflow_execution_id = undoing.workflow_execution_id
                    and undone.attempt = 0
                    and undone.status = 'INTENT'
                    and (
                        strpos(lower(undone.error_type), lower(:error_text)) > 0
                        or strpos(lower(undone.error_message), lower(:error_text)) > 0
                    )
            )
            and (
                cast(:statuses as text) is null
                or undoing.status = any(
                    array(select json_array_elements_text(cast(:statuses as json)))
                )
            )
            and (
                cast(:types as text) is null
                or workflow.workflow_type = any(
                    array(select json_array_elements_text(cast(:types as json)))
                )
            )
            and (cast(:version as bigint) is null or workflow.version = :version)
            and (
                cast(:id_from as text) is null
                or (
                    undoing.workflow_execution_id >= :id_from
                    and undoing.workflow_execution_id < :id_before
                )
            )
            and undoing.created_at >= coalesce(
                cast(nullif(:created_from, '') as timestamptz), '-infinity'
            )
            and (undoing.created_at, undoing.row_number) < (
                coalesce(
                    cast(substring(:before_time from '^[-i\d].*') as timestamptz),
                    'infinity'
                ),
                :before_rowid
            )
        order by undoing.created_at desc, undoing.row_number desc
        limit :row_limit
    )
) as found
order by found.created_at desc, found.row_number desc
limit :row_limit;

-- name: match_rows
-- Which of some executions (a JSON array of ids) fit all that is asked for: they last
-- changed in a span of time; they are at a step, or failed there; they have a text in
-- their error; they are children of one execution, or in the tree of one; they are in
-- a named queue; they have some tags (a JSON object), and some values in their input.
-- An input is a JSON array of arguments. :inputs asks for each value by the position of
-- an argument, or by a path in an argument that is an object. A path is written as for
-- SQLite: $."customer"."id". A text is compared as it is; a number, true, false and
-- null as they stand in JSON. PostgreSQL cannot take \u0000 out of JSON, and so another
-- character stands in for it.
-- :step_name text null
-- :error_text text null
-- :parent text null
-- :root text null
-- :queues text null
with recursive tree (workflow_execution_id) as (
    select cast(:root as text) collate "C" as workflow_execution_id
    where cast(:root as text) is not null
    union
    select below.workflow_execution_id
    from tree
    inner join durable_workflow.workflow_executions as below
        on tree.workflow_execution_id = below.parent_execution_id
)

select execution.workflow_execution_id
from durable_workflow.workflow_executions as execution
where
    execution.workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    )
    and (cast(:parent as text) is null or execution.parent_execution_id = :parent)
    and (
        cast(:queues as text) is null
        or execution.queue = any(
            array(select json_array_elements_text(cast(:queues as json)))
        )
    )
    and (
        cast(:root as text) is null
        or execution.workflow_execution_id in (
            select tree.workflow_execution_id from tree
        )
    )
    and execution.updated_at >= coalesce(
        cast(nullif(:changed_from, '') as timestamptz), '-infinity'
    )
    and execution.updated_at < coalesce(
        cast(substring(:changed_before from '^[-i\d].*') as timestamptz), 'infinity'
    )
    and (
        cast(:step_name as text) is null
        or :step_name = (
            select overview.current_step
            from durable_workflow.workflow_overview as overview
            where overview.workflow_execution_id = execution.workflow_execution_id
        )
    )
    and (
        cast(:error_text as text) is null
        or strpos(lower(execution.error_type), lower(:error_text)) > 0
        or strpos(lower(execution.error_message), lower(:error_text)) > 0
        or (
            execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
            and strpos(lower(execution.trouble), lower(:error_text)) > 0
        )
        or (
            execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
            and exists (
                select 1
                from durable_workflow.workflow_open_steps as open_step
                inner join durable_workflow.step_checkpoints as step
                    on open_step.id = step.id
                where
                    open_step.workflow_execution_id = execution.workflow_execution_id
                    and (
                        strpos(lower(step.error_type), lower(:error_text)) > 0
                        or strpos(lower(step.error_message), lower(:error_text)) > 0
                    )
            )
        )
    )
    and not exists (
        select 1
        from json_each_text(cast(:tags as json)) as wanted_tag (name, value)
        where
            not exists (
                select 1
                from durable_workflow.workflow_tags as tag
                where
                    tag.workflow_execution_id = execution.workflow_execution_id
                    and tag.name = wanted_tag.name
                    and tag.value = wanted_tag.value
            )
    )
    and not exists (
        select 1
        from json_array_elements(cast(:inputs as json)) as wanted (filter)
        where
            not exists (
                select 1
                from
                    json_array_elements(
                        cast(
                            case
                                when
                                    json_typeof(cast(execution.input_data as json))
                                    = 'array'
                                    then
                                        replace(
                                            execution.input_data, '\u0000', '\ufffd'
                                        )
                                else '[]'
                            end as json
                        )
                    ) with ordinality as argument (given, place)
                where
                    wanted.filter ->> 'value' in (
                        case
                            when
                                argument.place - 1
                                = cast(wanted.filter ->> 'position' as bigint)
                                then
                                    case json_typeof(argument.given)
                                        when 'null' then 'null'
                                        else argument.given #>> '{}'
                                    end
                        end,
                        case
                            when json_typeof(argument.given) = 'object'
                                then
                                    case
                                    json_typeof(
                                        argument.given #> string_to_array(
                                            trim(
                                                both '"' from substr(
                                                    wanted.filter ->> 'path', 3
                                                )
                                            ),
                                            '"."'
                                        )
                                    )
                                        when 'null' then 'null'
                                        else argument.given #>> string_to_array(
                                            trim(
                                                both '"' from substr(
                                                    wanted.filter ->> 'path', 3
                                                )
                                            ),
                                            '"."'
                                        )
                                    end
                        end
                    )
            )
    );

-- name: pick_oldest_unfinished
-- The unfinished executions that were started first.
select
    execution.row_number,
    execution.workflow_execution_id,
    execution.created_at
from (
    values ('PENDING'), ('RUNNING'), ('SUSPENDED'), ('COMPENSATING')
) as unfinished (status)
cross join durable_workflow.workflows as workflow
cross join
    lateral (
        select
            oldest.row_number,
            oldest.workflow_execution_id,
            oldest.created_at
        from durable_workflow.workflow_executions as oldest
        where
            oldest.status = unfinished.status
            and oldest.workflow_id = workflow.workflow_id
        order by oldest.created_at asc, oldest.row_number asc
        limit :row_limit
    ) as execution
order by execution.created_at asc, execution.row_number asc
limit :row_limit;

-- name: load_summaries
-- Where each of some executions is (a JSON array of ids), and what it waits for.
select
    workflow_execution_id,
    workflow_type,
    version,
    status,
    steps_begun,
    steps_completed,
    current_step,
    current_branch,
    attempts,
    waiting_for,
    waiting_until,
    waiting_since,
    step_error_type,
    step_error_message,
    steps_not_undone,
    signals_pending,
    blocked_reason,
    trouble,
    trouble_since,
    queue,
    paused_at,
    paused_by,
    paused_reason,
    paused_scope,
    paused_with,
    error_type,
    error_message,
    parent_execution_id,
    root_execution_id,
    on_parent_end,
    run_number,
    forked_from,
    forked_before,
    worker_id,
    created_at,
    updated_at,
    started_at,
    status_since,
    queued_seconds,
    running_seconds
from durable_workflow.workflow_overview
where
    workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    );

-- name: load_forks
-- Some forks of an execution, in the order in which they were started.
-- :forked_from text
-- :row_limit integer
select
    workflow_execution_id,
    forked_before,
    status,
    created_at
from durable_workflow.workflow_executions
where forked_from = :forked_from
order by created_at, workflow_execution_id
limit :row_limit;

-- name: load_children
-- Some children of an execution: those that are not over, then FAILED, CANCELLED and
-- COMPLETED ones, of each the first that were started. One that is paused with its
-- parent comes after those that go on. It goes through the statuses of its children in
-- the index, and takes the first of each.
with recursive present (status) as (
    select min(foremost.status) as status
    from durable_workflow.workflow_executions as foremost
    where foremost.parent_execution_id = :parent_execution_id
    union all
    select
        (
            select min(next_one.status)
            from durable_workflow.workflow_executions as next_one
            where
                next_one.parent_execution_id = :parent_execution_id
                and next_one.status > present.status
        ) as status
    from present
    where present.status is not null
)

select
    child.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    child.status,
    child.status_since,
    child.on_parent_end,
    child.error_message
from present
cross join
    lateral (
        select
            earliest.workflow_execution_id,
            earliest.workflow_id,
            earliest.status,
            earliest.status_since,
            earliest.on_parent_end,
            earliest.error_message,
            earliest.row_number
        from durable_workflow.workflow_executions as earliest
        where
            earliest.parent_execution_id = :parent_execution_id
            and earliest.status = present.status
        order by earliest.paused_with asc nulls first, earliest.row_number asc
        limit :row_limit
    ) as child
left join durable_workflow.workflows as workflow
    on child.workflow_id = workflow.workflow_id
order by
    child.status in ('COMPLETED', 'FAILED', 'CANCELLED') asc,
    child.status = 'COMPLETED' asc,
    child.status = 'CANCELLED' asc,
    child.row_number asc
limit :row_limit;

-- name: count_children
-- How many children of an execution have each status, counted no further than to a
-- limit.
with recursive present (status) as (
    select min(foremost.status) as status
    from durable_workflow.workflow_executions as foremost
    where foremost.parent_execution_id = :parent_execution_id
    union all
    select
        (
            select min(next_one.status)
            from durable_workflow.workflow_executions as next_one
            where
                next_one.parent_execution_id = :parent_execution_id
                and next_one.status > present.status
        ) as status
    from present
    where present.status is not null
)

select
    present.status,
    (
        select count(*)
        from (
            select 1 as one
            from durable_workflow.workflow_executions as counted
            where
                counted.parent_execution_id = :parent_execution_id
                and counted.status = present.status
            limit :at_most
        ) as some_of_it
    ) as total
from present
where present.status is not null;

-- name: load_execution_data^
-- Of one execution, what a summary leaves out.
select
    input_data,
    output_data,
    ttl_expires_at,
    guarantee,
    recovery_count,
    priority,
    queue,
    queue_key,
    dedup_id,
    debounced,
    available_at,
    last_event,
    started_at
from durable_workflow.workflow_executions
where workflow_execution_id = :workflow_execution_id;

-- name: load_executions_among
-- Some executions (a JSON array of ids), in the order of their ids.
select
    workflow_execution_id,
    workflow_id,
    status,
    current_step,
    input_data,
    output_data,
    error_type,
    error_message,
    ttl_expires_at,
    guarantee,
    priority,
    queue,
    queue_key,
    dedup_id,
    debounced,
    recovery_count,
    blocked_reason,
    trouble,
    available_at,
    last_event,
    started_at,
    parent_execution_id,
    root_execution_id,
    on_parent_end,
    run_number,
    forked_from,
    forked_before,
    replay_origin,
    created_at,
    updated_at,
    paused_at,
    paused_by,
    paused_reason,
    paused_with
from durable_workflow.workflow_executions
where
    workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    )
order by workflow_execution_id;

-- name: load_checkpoints_among
-- Every attempt of every step of some executions (a JSON array of ids): execution by
-- execution, in step order.
select
    id,
    workflow_execution_id,
    branch,
    step_index,
    attempt,
    step_name,
    kind,
    status,
    input_data,
    output_data,
    error_type,
    error_message,
    idempotency_key,
    compensate_ref,
    started_at,
    completed_at,
    due_at,
    event
from durable_workflow.step_checkpoints
where
    workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    )
order by workflow_execution_id, branch, step_index, attempt;

-- name: load_patches_among
-- The patches that some executions (a JSON array of ids) have passed.
select
    workflow_execution_id,
    branch,
    patch_name,
    event,
    passed_at
from durable_workflow.workflow_patches
where
    workflow_execution_id = any(
        array(select json_array_elements_text(cast(:workflow_execution_ids as json)))
    )
order by workflow_execution_id, branch, patch_name;

-- name: load_signals
-- Every signal of one execution, delivered or not, in order of arrival.
select
    workflow_signal_id,
    workflow_execution_id,
    signal_name,
    payload,
    status,
    created_at,
    refused_reason,
    signal_key
from durable_workflow.workflow_signals
where workflow_execution_id = :workflow_execution_id
order by workflow_signal_id;

-- name: load_next_timers
-- The deadlines that are due next, of what nobody has paused.
select
    workflow_execution_id,
    workflow_type,
    step_name,
    fire_at
from durable_workflow.workflow_due_timers
where not is_paused
order by fire_at
limit :row_limit;

-- name: count_pending_timers$
-- How many deadlines are still to come, or to be noticed.
select count(*) as total
from durable_workflow.workflow_timers
where status = 'PENDING';

-- name: load_steps_in_doubt
-- Steps that began and did not end, and that no living worker runs (:living is a JSON
-- array of the ids of living workers). Steps that were cut off or timed out are not
-- among them.
select
    workflow_execution_id,
    workflow_type,
    branch,
    step_index,
    attempt,
    step_name,
    idempotency_key,
    started_at,
    worker_id
from durable_workflow.workflow_in_doubt
where
    step_status = 'INTENT'
    and (
        worker_id is null
        or worker_id != all(
            array(select json_array_elements_text(cast(:living as json)))
        )
    )
limit :row_limit;

-- name: count_steps_in_doubt$
-- How many rows load_steps_in_doubt has to give.
select count(*) as total
from durable_workflow.workflow_in_doubt
where
    step_status = 'INTENT'
    and (
        worker_id is null
        or worker_id != all(
            array(select json_array_elements_text(cast(:living as json)))
        )
    );

-- name: load_unresolved
-- Steps and compensations in doubt that wait until a person says what became of them:
-- the longest waiting first.
-- @scan step_checkpoints: an index that holds only those
-- @sort: as many as wait for a person
-- :row_limit integer
select
    workflow_execution_id,
    workflow_type,
    branch,
    step_index,
    attempt,
    step_name,
    question,
    asked_at,
    started_at
from durable_workflow.workflow_unresolved
order by asked_at nulls first, checkpoint_id
limit :row_limit;

-- name: count_unresolved$
-- How many rows load_unresolved has to give.
-- @scan step_checkpoints: an index that holds only those
-- =total integer
select count(*) as total
from durable_workflow.workflow_unresolved;

-- name: load_steps_cut_off
-- Steps that were cancelled while they ran, or timed out, that may have taken effect,
-- and that nothing has undone; except those that a COMPLETED execution has cancelled,
-- and went on without. People find out what became of them.
select
    workflow_execution_id,
    workflow_type,
    branch,
    step_index,
    attempt,
    step_name,
    idempotency_key,
    started_at,
    worker_id
from durable_workflow.workflow_in_doubt
where
    step_status = 'FAILED'
    and (
        status != 'COMPLETED'
        or error_type != 'asyncio.exceptions:CancelledError'
    )
    and started_at is not null
limit :row_limit;

-- name: count_steps_cut_off$
-- How many rows load_steps_cut_off has to give.
select count(*) as total
from durable_workflow.workflow_in_doubt
where
    step_status = 'FAILED'
    and (
        status != 'COMPLETED'
        or error_type != 'asyncio.exceptions:CancelledError'
    );

-- name: count_cut_off_of$
-- How many steps of an execution were cut off or timed out, and nobody has dealt with
-- that.
select count(*) as total
from durable_workflow.workflow_in_doubt
where
    workflow_execution_id = :workflow_execution_id
    and step_status = 'FAILED';

-- name: load_blocked
-- Blocked executions, and why they are, the oldest first: all of them, if the limit is
-- -1, which PostgreSQL itself would refuse.
select
    execution.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    execution.blocked_reason,
    execution.created_at,
    execution.updated_at
from durable_workflow.workflow_executions as execution
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.blocked_reason is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
order by execution.created_at, execution.workflow_execution_id
limit case when cast(:row_limit as bigint) >= 0 then :row_limit end;

-- name: count_blocked$
-- How many executions are blocked.
select count(*) as total
from durable_workflow.workflow_blocked;

-- name: load_paused
-- Executions that are paused themselves, those that were started first. `held` is how
-- many below it are held with it, counted no further than to a limit.
select
    execution.workflow_execution_id,
    workflow.workflow_type,
    execution.status,
    execution.paused_at,
    execution.paused_by,
    execution.paused_reason,
    execution.ttl_expires_at,
    (
        select count(*)
        from (
            select 1 as one
            from durable_workflow.workflow_executions as below
            where
                below.paused_with = execution.workflow_execution_id
                and below.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
            limit :at_most
        ) as counted
    ) as held
from durable_workflow.workflow_executions as execution
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.paused_at is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
order by execution.created_at
limit :row_limit;

-- name: count_paused$
-- How many executions are paused themselves.
select count(*) as total
from durable_workflow.workflow_executions
where
    paused_at is not null
    and status not in ('COMPLETED', 'FAILED', 'CANCELLED');

-- name: load_taken_over
-- Executions that dead workers may have died of at least :least times, with no progress
-- in between, the most often first. Blocked ones are left out, and so are those that
-- only wait.
select
    workflow_execution_id,
    recovery_count
from durable_workflow.workflow_executions
where
    status in ('RUNNING', 'COMPENSATING')
    and recovery_count >= :least
    and blocked_reason is null
order by recovery_count desc, created_at asc
limit :row_limit;

-- name: count_taken_over$
-- How many rows load_taken_over has to give.
select count(*) as total
from durable_workflow.workflow_executions
where
    status in ('RUNNING', 'COMPENSATING')
    and recovery_count >= :least
    and blocked_reason is null;

-- name: load_in_trouble
-- Executions in trouble, the oldest first.
select
    workflow_execution_id,
    workflow_type,
    version,
    status,
    trouble,
    place,
    trouble_since,
    created_at,
    updated_at
from durable_workflow.workflow_in_trouble
order by created_at
limit :row_limit;

-- name: count_in_trouble$
-- How many executions are in trouble.
select count(*) as total
from durable_workflow.workflow_executions
where
    trouble is not null
    and status not in ('COMPLETED', 'FAILED', 'CANCELLED');

-- name: load_undoing
-- Compensations that have failed and are tried again. Looks at the steps of all that is
-- COMPENSATING.
select
    workflow_execution_id,
    workflow_type,
    undoing_since,
    step_name,
    attempts,
    error_message,
    next_try_at
from durable_workflow.workflow_undoing
order by undoing_since
limit :row_limit;

-- name: count_undoing$
-- How many rows load_undoing has to give.
select count(*) as total
from durable_workflow.workflow_undoing;

-- name: load_not_undone
-- What should be undone and is not, since a compensation failed for good: what failed
-- last comes first.
select
    workflow_execution_id,
    workflow_type,
    status,
    branch,
    step_index,
    step_name,
    error_type,
    error_message,
    failed_at
from durable_workflow.workflow_not_undone
order by failed_at desc nulls last
limit :row_limit;

-- name: count_not_undone$
-- How many rows load_not_undone has to give.
select count(*) as total
from durable_workflow.step_checkpoints
where attempt < 1 and status = 'FAILED';

-- name: load_schema_objects
-- The tables, indexes, views, triggers and functions of the schema. sql is what the
-- server says of each; of a table, it is the columns.
select
    made.type,
    made.name,
    made.sql
from (
    select
        case relation.relkind when 'r' then 'table' else 'view' end as type,
        cast(relation.relname as text) as name,
        case relation.relkind
            when 'v' then pg_get_viewdef(relation.oid)
            else (
                select string_agg(attname, ', ' order by attnum)
                from pg_attribute
                where attrelid = relation.oid and attnum > 0 and not attisdropped
            )
        end as sql
    from pg_class as relation
    where
        relation.relnamespace = cast('durable_workflow' as regnamespace)
        and relation.relkind in ('r', 'v')
    union all
    select
        'index' as type,
        cast(relation.relname as text) as name,
        pg_get_indexdef(relation.oid) as sql
    from pg_class as relation
    where
        relation.relnamespace = cast('durable_workflow' as regnamespace)
        and relation.relkind = 'i'
    union all
    select
        'trigger' as type,
        cast(fired.tgname as text) as name,
        pg_get_triggerdef(fired.oid) as sql
    from pg_trigger as fired
    inner join pg_class as relation
        on fired.tgrelid = relation.oid
    where
        relation.relnamespace = cast('durable_workflow' as regnamespace)
        and not fired.tgisinternal
    union all
    select
        'function' as type,
        cast(called.proname as text) as name,
        pg_get_functiondef(called.oid) as sql
    from pg_proc as called
    where called.pronamespace = cast('durable_workflow' as regnamespace)
) as made
order by made.type, made.name;

-- name: count_prunable
-- How many finished executions were begun and last changed before a time, by workflow
-- and status: what retention would delete now. Reads all of those statuses.
-- @scan workflow_executions: most executions are finished, and all of those are counted
select
    workflow.workflow_type,
    workflow.version,
    execution.status,
    count(*) as total,
    min(execution.updated_at) as oldest
from durable_workflow.workflow_executions as execution
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.status = any(
        array(select json_array_elements_text(cast(:statuses as json)))
    )
    and execution.created_at < :before
    and execution.updated_at < :before
group by
    execution.status,
    execution.workflow_id,
    workflow.workflow_type,
    workflow.version
order by
    workflow.workflow_type nulls first,
    workflow.version nulls first,
    execution.status;

-- name: load_suspect_executions
-- Executions that the engine perhaps cannot read. The tables allow no unknown status,
-- no wrong number, no text that is not JSON and no workflow that does not exist. But a
-- time may be infinite, before the year 1 or after the year 9999: the caller looks
-- closer. Reads the whole table.
select
    workflow_execution_id,
    workflow_id,
    status,
    current_step,
    input_data,
    output_data,
    error_type,
    error_message,
    ttl_expires_at,
    guarantee,
    priority,
    queue,
    queue_key,
    dedup_id,
    debounced,
    recovery_count,
    blocked_reason,
    trouble,
    available_at,
    last_event,
    started_at,
    parent_execution_id,
    root_execution_id,
    on_parent_end,
    run_number,
    forked_from,
    forked_before,
    replay_origin,
    created_at,
    updated_at,
    paused_at,
    paused_by,
    paused_reason,
    paused_with
from durable_workflow.workflow_executions
where
    created_at not between '0001-01-02' and '9999-12-30'
    or updated_at not between '0001-01-02' and '9999-12-30'
    or ttl_expires_at not between '0001-01-02' and '9999-12-30'
    or available_at not between '0001-01-02' and '9999-12-30'
    or started_at not between '0001-01-02' and '9999-12-30'
    or paused_at not between '0001-01-02' and '9999-12-30'
limit :row_limit;

-- name: load_suspect_checkpoints
-- As load_suspect_executions: checkpoints of the executions that are not over.
-- @scan step_checkpoints: all that is unfinished, when an operator asks
select
    step.id,
    step.workflow_execution_id,
    step.branch,
    step.step_index,
    step.attempt,
    step.step_name,
    step.kind,
    step.status,
    step.input_data,
    step.output_data,
    step.error_type,
    step.error_message,
    step.idempotency_key,
    step.compensate_ref,
    step.started_at,
    step.completed_at,
    step.due_at,
    step.event
from durable_workflow.workflow_executions as execution
inner join durable_workflow.step_checkpoints as step
    on execution.workflow_execution_id = step.workflow_execution_id
where
    execution.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and (
        step.started_at not between '0001-01-02' and '9999-12-30'
        or step.completed_at not between '0001-01-02' and '9999-12-30'
        or step.due_at not between '0001-01-02' and '9999-12-30'
    )
limit :row_limit;

-- name: load_suspect_timers
-- As load_suspect_executions: timers of the executions that are not over.
-- @scan workflow_timers: all that is unfinished, when an operator asks
select
    timer.workflow_timer_id,
    timer.workflow_execution_id,
    timer.step_name,
    timer.fire_at,
    timer.status,
    timer.created_at
from durable_workflow.workflow_executions as execution
inner join durable_workflow.workflow_timers as timer
    on execution.workflow_execution_id = timer.workflow_execution_id
where
    execution.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and (
        timer.fire_at not between '0001-01-02' and '9999-12-30'
        or timer.created_at not between '0001-01-02' and '9999-12-30'
    )
limit :row_limit;

-- name: load_suspect_signals
-- As load_suspect_executions: signals that the executions which are not over may still
-- take.
-- @scan workflow_signals: all that is unfinished, when an operator asks
select
    signal.workflow_signal_id,
    signal.workflow_execution_id,
    signal.signal_name,
    signal.payload,
    signal.status,
    signal.created_at,
    signal.refused_reason,
    signal.signal_key
from durable_workflow.workflow_executions as execution
inner join durable_workflow.workflow_signals as signal
    on execution.workflow_execution_id = signal.workflow_execution_id
where
    execution.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and signal.status = 'PENDING'
    and signal.created_at not between '0001-01-02' and '9999-12-30'
limit :row_limit;

-- name: load_gaps
-- Executions of some statuses (a JSON array) whose steps have a gap: the number of an
-- event is left out or there twice, an attempt is missing, or a compensation has no
-- step. Somebody deleted or edited rows by hand; but a number is also left out where
-- the store refused an outcome at first. Reads all steps of these executions.
select
    execution.workflow_execution_id,
    execution.last_event
from durable_workflow.workflow_executions as execution
where
    execution.status = any(
        array(select json_array_elements_text(cast(:statuses as json)))
    )
    and (
        select
            sum(place.events) != coalesce(max(place.last_event), 0)
            -- As numeric, which no number is too large for.
            or 2 * sum(place.numbers)
            != cast(max(place.last_event) as numeric) * (max(place.last_event) + 1)
            or bool_or(
                place.attempts != place.last_attempt or place.last_attempt = 0
            )
            or coalesce(execution.last_event, 0) > coalesce(max(place.last_event), 0)
        from (
            select
                count(step.event) as events,
                sum(step.event) as numbers,
                max(step.event) as last_event,
                count(*) filter (where step.attempt > 0) as attempts,
                max(step.attempt) as last_attempt
            from durable_workflow.step_checkpoints as step
            where step.workflow_execution_id = execution.workflow_execution_id
            group by step.branch, step.step_index
        ) as place
    )
limit :row_limit;

-- name: load_refused_signals
-- Executions that wait for a signal, or for the answer to a question, while the last
-- one of that name was refused.
-- @scan workflow_signals: those that were refused, when an operator asks
-- =workflow_execution_id text
-- =signal_name text
-- =workflow_signal_id integer
with awaited as (
    select
        wait.workflow_execution_id,
        wait.step_name as signal_name
    from durable_workflow.step_checkpoints as wait
    where
        wait.kind = 'SIGNAL'
        and wait.status = 'INTENT'
    union all
    select
        question.workflow_execution_id,
        '$resolved' as signal_name
    from durable_workflow.workflow_unresolved as question
)

select
    awaited.workflow_execution_id,
    signal.signal_name,
    signal.workflow_signal_id,
    signal.refused_reason
from awaited
inner join durable_workflow.workflow_signals as signal
    on signal.workflow_signal_id = (
        select max(refused.workflow_signal_id)
        from durable_workflow.workflow_signals as refused
        where
            refused.workflow_execution_id = awaited.workflow_execution_id
            and refused.status = 'REFUSED'
            and refused.signal_name = awaited.signal_name
    )
where
    not exists (
        select 1
        from durable_workflow.workflow_signals as later
        where
            later.workflow_execution_id = awaited.workflow_execution_id
            and later.status in ('PENDING', 'DELIVERED')
            and later.signal_name = awaited.signal_name
            and later.workflow_signal_id > signal.workflow_signal_id
    )
limit :row_limit;

-- name: load_stray_signals
-- Signals that are pending, and that nothing will take: their execution is final, or
-- their name begins with $ and is not one of the library's.
select
    signal.workflow_signal_id,
    signal.workflow_execution_id,
    signal.signal_name,
    execution.status
from durable_workflow.workflow_signals as signal
inner join durable_workflow.workflow_executions as execution
    on signal.workflow_execution_id = execution.workflow_execution_id
where
    signal.status = 'PENDING'
    and (
        execution.status in ('COMPLETED', 'FAILED', 'CANCELLED')
        or (
            signal.signal_name like '$%'
            and signal.signal_name not like '$child:%'
            and signal.signal_name not in (:cancel_signal, :resolved_signal)
            and not (
                signal.signal_name like '$answer:%'
                and exists (
                    select 1
                    from durable_workflow.step_checkpoints as asked
                    where
                        asked.workflow_execution_id = signal.workflow_execution_id
                        and asked.step_name = signal.signal_name
                        and asked.kind = 'SIGNAL'
                        and asked.status = 'INTENT'
                )
            )
        )
    )
limit :row_limit;

-- name: load_untaken_signals
-- Signals that came before a time, and that no open wait of that name has taken.
-- A worker has the execution, or none may claim it; then worker_id is null.
select
    signal.workflow_execution_id,
    signal.signal_name,
    claim.worker_id
from durable_workflow.workflow_signals as signal
inner join durable_workflow.workflow_executions as execution
    on signal.workflow_execution_id = execution.workflow_execution_id
left join durable_workflow.workflow_claims as claim
    on signal.workflow_execution_id = claim.workflow_execution_id
where
    signal.status = 'PENDING'
    and signal.created_at < :before
    and execution.status in ('PENDING', 'RUNNING', 'SUSPENDED')
    and execution.blocked_reason is null
    and execution.paused_at is null
    and execution.paused_with is null
    and (
        claim.worker_id is not null
        or (
            execution.available_at is null
            and execution.guarantee = 'BEST_EFFORT_BACKGROUND'
        )
    )
    and exists (
        select 1
        from durable_workflow.step_checkpoints as awaited
        where
            awaited.workflow_execution_id = signal.workflow_execution_id
            and awaited.step_name = signal.signal_name
            and awaited.kind = 'SIGNAL'
            and awaited.status = 'INTENT'
    )
limit :row_limit;

-- name: load_workers
-- Who some workers are (a JSON array of ids). The ids of living ones are known from
-- the locks of their sessions.
select
    worker_number,
    worker_id,
    host,
    process_id,
    program,
    started_at,
    max_concurrent
from durable_workflow.workflow_workers
where
    worker_id = any(
        array(select json_array_elements_text(cast(:worker_ids as json)))
    )
order by worker_number;

-- name: load_served
-- What some workers run (a JSON array of numbers).
select
    worker_number,
    workflow_type,
    version
from durable_workflow.workflow_worker_workflows
where
    worker_number = any(
        array(
            select cast(given.number as bigint)
            from
                json_array_elements_text(cast(:worker_numbers as json))
                    as given (number)
        )
    )
order by worker_number, workflow_type, version;

-- name: load_served_queues
-- Which named queues some workers serve (a JSON array of numbers).
select
    worker_number,
    queue
from durable_workflow.workflow_worker_queues
where
    worker_number = any(
        array(
            select cast(given.number as bigint)
            from
                json_array_elements_text(cast(:worker_numbers as json))
                    as given (number)
        )
    )
order by worker_number, queue;

-- name: count_claims_by_worker
-- How many executions each worker has claimed. Reads all claims, by their index.
select
    worker_id,
    count(*) as total
from durable_workflow.workflow_claims
group by worker_id;

-- name: load_claimed_by
-- Some of the executions that a worker has claimed, the last changed first.
select
    claim.workflow_execution_id,
    execution.updated_at
from durable_workflow.workflow_claims as claim
inner join durable_workflow.workflow_executions as execution
    on claim.workflow_execution_id = execution.workflow_execution_id
where claim.worker_id = :worker_id
order by execution.updated_at desc
limit :row_limit;

-- name: load_claim_of^
-- Who has claimed an execution, and since when: for people, who hold nothing by that.
select
    worker_id,
    fencing_token,
    claimed_at
from durable_workflow.workflow_claims
where workflow_execution_id = :workflow_execution_id;

-- name: load_work_under_way
-- What workers do now: the claimed executions that run, each with its steps that have
-- begun and not ended, and with those that wait (waiting_for is not null). One between
-- two steps has neither; or it waits for its children to be over, before it is undone.
select
    claim.worker_id,
    claim.claimed_at,
    claim.workflow_execution_id,
    workflow.workflow_type,
    step.step_name,
    step.attempt,
    step.started_at,
    step.waiting_for,
    execution.status = 'COMPENSATING'
    and exists (
        select 1
        from durable_workflow.workflow_executions as child
        where
            child.parent_execution_id = execution.workflow_execution_id
            and child.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
            and child.on_parent_end = 'cancel'
    ) as waits_for_children
from durable_workflow.workflow_claims as claim
inner join durable_workflow.workflow_executions as execution
    on claim.workflow_execution_id = execution.workflow_execution_id
left join durable_workflow.workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join durable_workflow.workflow_open_steps as step
    on execution.workflow_execution_id = step.workflow_execution_id
where execution.status in ('RUNNING', 'COMPENSATING');

-- name: load_queues
-- The workflows that have unfinished executions: how many of these are due, run, are in
-- trouble, or are blocked. count_unfinished tells how many there are in all.
select
    workflow_type,
    version,
    unfinished_since,
    due,
    due_since,
    running,
    in_trouble,
    blocked,
    paused
from durable_workflow.workflow_queue
order by workflow_type, version;

-- name: count_unfinished
-- How many executions of each workflow are not over, as count_executions tells, too.
-- Reads an index.
select
    workflow_type,
    version,
    unfinished
from durable_workflow.workflow_queue;

-- name: load_open_of_completed
-- Steps, sleeps and waits that have begun and not ended, of executions that are
-- COMPLETED: the last attempt of each. An execution that the engine ended has none.
-- Looks through all steps of COMPLETED executions.
-- @scan step_checkpoints: all steps, when an operator asks
select
    step.workflow_execution_id,
    step.step_name
from durable_workflow.step_checkpoints as step
inner join durable_workflow.workflow_executions as execution
    on step.workflow_execution_id = execution.workflow_execution_id
where
    step.status = 'INTENT'
    and execution.status = 'COMPLETED'
    and not exists (
        select 1
        from durable_workflow.step_checkpoints as later
        where
            later.workflow_execution_id = step.workflow_execution_id
            and later.branch = step.branch
            and later.step_index = step.step_index
            and later.attempt > step.attempt
    )
limit :row_limit;

-- name: load_edited
-- Executions that no engine leaves as they are, of some statuses (a JSON array).
-- what says what is wrong: a wait or a sleep is open; a step with a compensation is not
-- undone, and its compensation has not begun; or there is no error.
-- Looks through all of those that FAILED or were CANCELLED.
-- @scan step_checkpoints: all that failed, when an operator asks
select
    execution.workflow_execution_id,
    'open' as what,
    step.step_name
from durable_workflow.workflow_executions as execution
inner join durable_workflow.step_checkpoints as step
    on execution.workflow_execution_id = step.workflow_execution_id
where
    execution.status = any(
        array(select json_array_elements_text(cast(:statuses as json)))
    )
    and step.status = 'INTENT'
    and step.kind != 'STEP'
union all
select
    execution.workflow_execution_id,
    'not undone' as what,
    step.step_name
from durable_workflow.workflow_executions as execution
inner join durable_workflow.step_checkpoints as step
    on execution.workflow_execution_id = step.workflow_execution_id
where
    execution.status = any(
        array(select json_array_elements_text(cast(:statuses as json)))
    )
    and step.status = 'COMPLETED'
    and step.attempt > 0
    and step.compensate_ref is not null
    and not exists (
        select 1
        from durable_workflow.step_checkpoints as undone
        where
            undone.workflow_execution_id = step.workflow_execution_id
            and undone.branch = step.branch
            and undone.step_index = step.step_index
            and undone.attempt = 0
    )
union all
select
    execution.workflow_execution_id,
    'no error' as what,
    null as step_name
from durable_workflow.workflow_executions as execution
where
    execution.status = 'FAILED'
    and execution.error_type is null
    and execution.error_message is null
limit :row_limit;

-- name: load_numbered_intents
-- Attempts and waits that have not ended, and have the number of an outcome.
-- Of unfinished executions.
-- @scan step_checkpoints: all that is unfinished, when an operator asks
select
    step.workflow_execution_id,
    step.step_name
from durable_workflow.workflow_executions as execution
inner join durable_workflow.step_checkpoints as step
    on execution.workflow_execution_id = step.workflow_execution_id
where
    execution.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and step.status = 'INTENT'
    and step.event is not null
limit :row_limit;

-- name: load_stranded
-- Unfinished executions that no worker will go on with, since somebody edited rows.
-- what says why: the child that it waits for is over, gone, or has another parent, and
-- no signal will tell; a step, a sleep or a wait is COMPLETED without the number of an
-- event, so that no replay tells its outcome; or no worker has it, and there is no time
-- from which one may claim it.
-- @scan step_checkpoints: all that is unfinished, when an operator asks
select
    execution.workflow_execution_id,
    'child' as what,
    step.step_name
from durable_workflow.workflow_executions as execution
inner join durable_workflow.step_checkpoints as step
    on execution.workflow_execution_id = step.workflow_execution_id
where
    execution.status in ('PENDING', 'RUNNING', 'SUSPENDED')
    and step.status = 'INTENT'
    and step.kind = 'SIGNAL'
    and step.attempt > 0
    and starts_with(step.step_name, :child_signal)
    and not exists (
        select 1
        from durable_workflow.workflow_executions as child
        where
            child.workflow_execution_id
            = substr(step.step_name, length(:child_signal) + 1)
            and child.parent_execution_id = execution.workflow_execution_id
            and child.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    )
    and not exists (
        select 1
        from durable_workflow.workflow_signals as told
        where
            told.workflow_execution_id = execution.workflow_execution_id
            and told.status = 'PENDING'
            and told.signal_name = step.step_name
    )
union all
select
    execution.workflow_execution_id,
    'no event' as what,
    step.step_name
from durable_workflow.workflow_executions as execution
inner join durable_workflow.step_checkpoints as step
    on execution.workflow_execution_id = step.workflow_execution_id
where
    execution.status in ('PENDING', 'RUNNING', 'SUSPENDED')
    and step.status = 'COMPLETED'
    and step.attempt > 0
    and step.event is null
union all
select
    execution.workflow_execution_id,
    'no time' as what,
    null as step_name
from durable_workflow.workflow_executions as execution
where
    execution.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and execution.available_at is null
    and execution.guarantee = 'BEST_EFFORT_BACKGROUND'
    and execution.blocked_reason is null
    and execution.paused_at is null
    and execution.trouble is null
    and (
        execution.status != 'SUSPENDED'
        or exists (
            select 1
            from durable_workflow.workflow_timers as timer
            where
                timer.workflow_execution_id = execution.workflow_execution_id
                and timer.status = 'PENDING'
        )
    )
    and not exists (
        select 1
        from durable_workflow.workflow_claims as claim
        where claim.workflow_execution_id = execution.workflow_execution_id
    )
limit :row_limit;

-- name: load_unblocked_without_rows
-- Unfinished executions that somebody unblocked although rows of their steps were
-- missing, and which rows.
select
    entry.workflow_execution_id,
    cast(entry.details as json) ->> 'missing' as missing
from durable_workflow.workflow_audit_log as entry
where
    entry.act = 'unblock'
    and entry.workflow_execution_id is not null
    and cast(entry.details as json) ->> 'missing' is not null
    and exists (
        select 1
        from durable_workflow.workflow_executions as execution
        where
            execution.workflow_execution_id = entry.workflow_execution_id
            and execution.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    )
limit :row_limit;

-- name: load_token_sequence
-- The highest fencing token that was ever given, as its sequence says; the highest that
-- is in use, each 0 if there is none; and whether a worker has begun a step here, and
-- so had one. A step that was moved here began elsewhere. Who may not read the sequence
-- is told that it is right.
select
    coalesce(
        (
            select last_value
            from pg_sequences
            where
                schemaname = 'durable_workflow'
                and sequencename = 'workflow_claims_fencing_token_seq'
        ),
        case
            when
                not has_sequence_privilege(
                    'durable_workflow.workflow_claims_fencing_token_seq', 'select'
                )
                then (
                    select 1 + coalesce(max(fencing_token), 0)
                    from durable_workflow.workflow_claims
                )
        end,
        0
    ) as given,
    coalesce(
        (select max(fencing_token) from durable_workflow.workflow_claims), 0
    ) as used,
    coalesce(
        (
            select
                newest.worker_number is not null
                and not exists (
                    select 1
                    from durable_workflow.workflow_moves as move
                    where
                        move.direction = 'IN'
                        and (
                            move.finished_at is null
                            or move.finished_at >= newest.started_at
                        )
                )
            from durable_workflow.step_checkpoints as newest
            order by newest.id desc
            limit 1
        ),
        false
    ) as has_begun;

-- name: load_attempt_workers
-- Which worker began each attempt of an execution, as far as it is known.
select
    checkpoint_id,
    worker_number,
    worker
from durable_workflow.workflow_timeline
where
    workflow_execution_id = :workflow_execution_id
    and worker_number is not null
    and worker is not null;
