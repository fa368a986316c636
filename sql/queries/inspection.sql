-- What people ask of a file: the command line and the dashboard read with these, and
-- change nothing. They must be quick in a file of a million executions. So each reads
-- as many rows as it gives, or an index alone; one that reads more says so. The views
-- that they read are in sql/views.

-- name: count_executions
-- How many executions there are of each workflow in each status. Reads an index of
-- the table from end to end.
-- @scan workflow_executions: an index alone, which is what counting costs
-- @sort: a row for each workflow and status
-- =workflow_type text null
-- =version integer null
-- =total integer
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
    from workflow_executions
    group by status, workflow_id
) as counted
left join workflows as workflow
    on counted.workflow_id = workflow.workflow_id
order by workflow.workflow_type, workflow.version, counted.status;

-- name: pick_newest
-- The newest executions that come before a place in the order of creation. It goes
-- through the pairs of status and workflow in the index, and takes the newest of each
-- pair, and of these the newest. So every page costs the same.
-- @scan workflow_executions: the first entry of an index
-- @sort: a page for each workflow and status
-- :statuses text null
-- :types text null
-- :version integer null
-- :id_from text null
-- :id_before text null
-- :created_from text
-- :before_time text
-- :before_rowid integer
-- :row_limit integer
-- =row_number integer
-- =workflow_execution_id text
-- =created_at text
with recursive pairs (status, workflow_id) as (
    select
        execution.status,
        execution.workflow_id
    from workflow_executions as execution
    where
        execution.rowid = (
            select foremost.rowid
            from workflow_executions as foremost
            order by foremost.status asc, foremost.workflow_id asc
            limit 1
        )
    union all
    select
        execution.status,
        execution.workflow_id
    from pairs
    cross join workflow_executions as execution
    where
        execution.rowid = coalesce(
            (
                select next_one.rowid
                from workflow_executions as next_one
                where
                    next_one.status = pairs.status
                    and next_one.workflow_id > pairs.workflow_id
                order by next_one.workflow_id asc
                limit 1
            ),
            (
                select next_one.rowid
                from workflow_executions as next_one
                where next_one.status > pairs.status
                order by next_one.status asc, next_one.workflow_id asc
                limit 1
            )
        )
),

wanted (status, workflow_id) as (
    select
        pairs.status,
        pairs.workflow_id
    from pairs
    left join workflows as workflow
        on pairs.workflow_id = workflow.workflow_id
    where
        (:statuses is null or pairs.status in (select value from json_each(:statuses)))
        and (
            :types is null
            or workflow.workflow_type in (select value from json_each(:types))
        )
        and (:version is null or workflow.version = :version)
)

select
    execution.rowid as row_number,
    execution.workflow_execution_id,
    execution.created_at
from wanted
cross join workflow_executions as execution
where
    execution.rowid in (
        select newest.rowid
        from workflow_executions as newest
        where
            newest.status = wanted.status
            and newest.workflow_id = wanted.workflow_id
            and newest.created_at >= :created_from
            and (newest.created_at, newest.rowid) < (:before_time, :before_rowid)
            and (
                :id_from is null
                or (
                    newest.workflow_execution_id >= :id_from
                    and newest.workflow_execution_id < :id_before
                )
            )
        order by newest.created_at desc, newest.rowid desc
        limit :row_limit
    )
order by execution.created_at desc, execution.rowid desc
limit :row_limit;

-- name: count_ids$
-- How many executions have an id in a range, counted no further than to a limit.
-- :id_from text
-- :id_before text
-- :at_most integer
-- =total integer
select count(*) as total
from (
    select workflow_execution_id
    from workflow_executions
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
-- :created_from text
-- :before_time text
-- :before_rowid integer
-- :row_limit integer
-- =row_number integer
select
    execution.rowid as row_number,
    execution.workflow_execution_id,
    execution.created_at
from workflow_executions as execution
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.trouble is not null
    and execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
    and (
        :statuses is null
        or +execution.status in (select value from json_each(:statuses))
    )
    and (
        :types is null
        or workflow.workflow_type in (select value from json_each(:types))
    )
    and (:version is null or workflow.version = :version)
    and (
        :id_from is null
        or (
            +execution.workflow_execution_id >= :id_from
            and +execution.workflow_execution_id < :id_before
        )
    )
    and execution.created_at >= :created_from
    and (execution.created_at, execution.rowid) < (:before_time, :before_rowid)
order by execution.created_at desc, execution.rowid desc
limit :row_limit;

-- name: pick_paused
-- As pick_newest, but only executions that are paused themselves, by an index that has
-- no others. All else that is asked for is looked at in these, one after the other.
-- :statuses text null
-- :types text null
-- :version integer null
-- :id_from text null
-- :id_before text null
-- :created_from text
-- :before_time text
-- :before_rowid integer
-- :row_limit integer
-- =row_number integer
select
    execution.rowid as row_number,
    execution.workflow_execution_id,
    execution.created_at
from workflow_executions as execution
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.paused_at is not null
    and +execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
    and (
        :statuses is null
        or +execution.status in (select value from json_each(:statuses))
    )
    and (
        :types is null
        or workflow.workflow_type in (select value from json_each(:types))
    )
    and (:version is null or workflow.version = :version)
    and (
        :id_from is null
        or (
            +execution.workflow_execution_id >= :id_from
            and +execution.workflow_execution_id < :id_before
        )
    )
    and execution.created_at >= :created_from
    and (execution.created_at, execution.rowid) < (:before_time, :before_rowid)
order by execution.created_at desc, execution.rowid desc
limit :row_limit;

-- name: pick_among
-- As pick_newest, but only executions of one kind, by an index that holds no others:
-- 'blocked', 'not undone' (a compensation failed for good), 'tagged', or 'in range',
-- which is for a range of ids. There are also 'child' (of the execution relative) and
-- 'tree' (relative, and what is below it). Looks at all of these; the caller has
-- counted those in the range. The + keeps SQLite to the id of each.
-- @scan workflow_executions: an index that holds only those that are blocked
-- @scan step_checkpoints: an index that holds only those that are not undone
-- @sort: those that it looks at
-- :among text
-- :tag_name text null
-- :tag_value text null
-- :relative text null
-- :statuses text null
-- :types text null
-- :version integer null
-- :id_from text null
-- :id_before text null
-- :created_from text
-- :before_time text
-- :before_rowid integer
-- :row_limit integer
-- =row_number integer
-- =workflow_execution_id text
-- =created_at text
with recursive tree (workflow_execution_id) as (
    select :relative as workflow_execution_id
    where :among = 'tree'
    union
    select below.workflow_execution_id
    from tree
    cross join workflow_executions as below
        on tree.workflow_execution_id = below.parent_execution_id
),

candidate (workflow_execution_id) as (
    select blocked.workflow_execution_id
    from workflow_executions as blocked
    where
        :among = 'blocked'
        and blocked.blocked_reason is not null
        and +blocked.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
    union all
    select distinct not_undone.workflow_execution_id
    from step_checkpoints as not_undone
    where
        :among = 'not undone'
        and not_undone.attempt < 1
        and not_undone.status = 'FAILED'
    union all
    select tag.workflow_execution_id
    from workflow_tags as tag
    where
        :among = 'tagged'
        and tag.name = :tag_name
        and tag.value = :tag_value
    union all
    select child.workflow_execution_id
    from workflow_executions as child
    where
        :among = 'child'
        and child.parent_execution_id = :relative
    union all
    select tree.workflow_execution_id
    from tree
    union all
    select in_range.workflow_execution_id
    from workflow_executions as in_range
    where
        :among = 'in range'
        and in_range.workflow_execution_id >= :id_from
        and in_range.workflow_execution_id < :id_before
)

select
    execution.rowid as row_number,
    execution.workflow_execution_id,
    execution.created_at
from candidate
cross join workflow_executions as execution
    on candidate.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    (
        :statuses is null
        or +execution.status in (select value from json_each(:statuses))
    )
    and (
        :types is null
        or workflow.workflow_type in (select value from json_each(:types))
    )
    and (:version is null or workflow.version = :version)
    and (
        :id_from is null
        or (
            +execution.workflow_execution_id >= :id_from
            and +execution.workflow_execution_id < :id_before
        )
    )
    and +execution.created_at >= :created_from
    and (+execution.created_at, execution.rowid) < (:before_time, :before_rowid)
order by execution.created_at desc, execution.rowid desc
limit :row_limit;

-- name: pick_with_error
-- As pick_newest, but only executions that have a text in their error or trouble.
-- Or in the error after which they wait for their next attempt. Three indexes hold
-- these: one for errors, one for the trouble of the unfinished, one for attempts that
-- were to be made again. Those COMPENSATING are few.
-- @sort: a page from each of the four
-- :statuses text null
-- :types text null
-- :version integer null
-- :id_from text null
-- :id_before text null
-- :created_from text
-- :before_time text
-- :before_rowid integer
-- :error_text text
-- :row_limit integer
-- =row_number integer
select
    execution.rowid as row_number,
    execution.workflow_execution_id,
    execution.created_at
from workflow_executions as execution
where
    execution.rowid in (
        select failed_id
        from (
            select failed.rowid as failed_id
            from workflow_executions as failed
            left join workflows as workflow
                on failed.workflow_id = workflow.workflow_id
            where
                failed.error_message is not null
                and (
                    instr(lower(failed.error_type), lower(:error_text)) > 0
                    or instr(lower(failed.error_message), lower(:error_text)) > 0
                )
                and (
                    :statuses is null
                    or +failed.status in (select value from json_each(:statuses))
                )
                and (
                    :types is null
                    or workflow.workflow_type in (select value from json_each(:types))
                )
                and (:version is null or workflow.version = :version)
                and (
                    :id_from is null
                    or (
                        +failed.workflow_execution_id >= :id_from
                        and +failed.workflow_execution_id < :id_before
                    )
                )
                and failed.created_at >= :created_from
                and (failed.created_at, failed.rowid) < (:before_time, :before_rowid)
            order by failed.created_at desc, failed.rowid desc
            limit :row_limit
        ) as failures
        union all
        select troubled_id
        from (
            select troubled.rowid as troubled_id
            from workflow_executions as troubled
            left join workflows as workflow
                on troubled.workflow_id = workflow.workflow_id
            where
                troubled.trouble is not null
                and troubled.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
                and instr(lower(troubled.trouble), lower(:error_text)) > 0
                and (
                    :statuses is null
                    or +troubled.status in (select value from json_each(:statuses))
                )
                and (
                    :types is null
                    or workflow.workflow_type in (select value from json_each(:types))
                )
                and (:version is null or workflow.version = :version)
                and (
                    :id_from is null
                    or (
                        +troubled.workflow_execution_id >= :id_from
                        and +troubled.workflow_execution_id < :id_before
                    )
                )
                and troubled.created_at >= :created_from
                and (troubled.created_at, troubled.rowid)
                < (:before_time, :before_rowid)
            order by troubled.created_at desc, troubled.rowid desc
            limit :row_limit
        ) as troubles
        union all
        select waiting_id
        from (
            select waiting.rowid as waiting_id
            from workflow_executions as waiting
            left join workflows as workflow
                on waiting.workflow_id = workflow.workflow_id
            where
                waiting.workflow_execution_id in (
                    select again.workflow_execution_id
                    from step_checkpoints as again
                    where
                        again.status = 'FAILED'
                        and again.kind = 'STEP'
                        and again.due_at is not null
                        and (
                            instr(lower(again.error_type), lower(:error_text)) > 0
                            or instr(lower(again.error_message), lower(:error_text)) > 0
                        )
                        and not exists (
                            select 1
                            from step_checkpoints as later
                            where
                                later.workflow_execution_id
                                = again.workflow_execution_id
                                and later.branch = again.branch
                                and later.step_index = again.step_index
                                and later.attempt > again.attempt
                        )
                )
                and +waiting.status in ('PENDING', 'RUNNING', 'SUSPENDED')
                and (
                    :statuses is null
                    or +waiting.status in (select value from json_each(:statuses))
                )
                and (
                    :types is null
                    or workflow.workflow_type in (select value from json_each(:types))
                )
                and (:version is null or workflow.version = :version)
                and (
                    :id_from is null
                    or (
                        +waiting.workflow_execution_id >= :id_from
                        and +waiting.workflow_execution_id < :id_before
                    )
                )
                and +waiting.created_at >= :created_from
                and (+waiting.created_at, waiting.rowid) < (:before_time, :before_rowid)
            order by waiting.created_at desc, waiting.rowid desc
            limit :row_limit
        ) as back_offs
        union all
        select undoing_id
        from (
            select undoing.rowid as undoing_id
            from workflow_executions as undoing
            left join workflows as workflow
                on undoing.workflow_id = workflow.workflow_id
            where
                undoing.status = 'COMPENSATING'
                and exists (
                    select 1
                    from step_checkpoints as undone
                    where
                        undone.workflow_execution_id = undoing.workflow_execution_id
                        and undone.attempt = 0
                        and undone.status = 'INTENT'
                        and (
                            instr(lower(undone.error_type), lower(:error_text)) > 0
                            or instr(lower(undone.error_message), lower(:error_text))
                            > 0
                        )
                )
                and (
                    :statuses is null
                    or +undoing.status in (select value from json_each(:statuses))
                )
                and (
                    :types is null
                    or workflow.workflow_type in (select value from json_each(:types))
                )
                and (:version is null or workflow.version = :version)
                and (
                    :id_from is null
                    or (
                        +undoing.workflow_execution_id >= :id_from
                        and +undoing.workflow_execution_id < :id_before
                    )
                )
                and undoing.created_at >= :created_from
                and (undoing.created_at, undoing.rowid) < (:before_time, :before_rowid)
            order by undoing.created_at desc, undoing.rowid desc
            limit :row_limit
        ) as compensations
    )
order by execution.created_at desc, execution.rowid desc
limit :row_limit;

-- name: match_rows
-- Which of some executions (a JSON array of ids) fit all that is asked for: they last
-- changed in a span of time; they are at a step, or failed there; they have a text in
-- their error; they are children of one execution, or in the tree of one; they are in
-- one of some named queues; they have some tags (a JSON object), and some values in
-- their input.
-- An input is a JSON array of arguments. :inputs asks for each value by the position of
-- an argument, or by a path in an argument that is an object. A text is compared as it
-- is; a number, true, false and null as they stand in JSON.
-- @sort: the steps of one execution
-- :workflow_execution_ids text
-- :changed_from text
-- :changed_before text
-- :step_name text null
-- :error_text text null
-- :parent text null
-- :root text null
-- :queues text null
-- :inputs text
-- =workflow_execution_id text
with recursive tree (workflow_execution_id) as (
    select :root as workflow_execution_id
    where :root is not null
    union
    select below.workflow_execution_id
    from tree
    cross join workflow_executions as below
        on tree.workflow_execution_id = below.parent_execution_id
)

select execution.workflow_execution_id
from workflow_executions as execution
where
    execution.workflow_execution_id in (
        select value from json_each(:workflow_execution_ids)
    )
    and (:parent is null or execution.parent_execution_id = :parent)
    and (
        :queues is null
        or execution.queue in (select value from json_each(:queues))
    )
    and (
        :root is null
        or execution.workflow_execution_id in (
            select tree.workflow_execution_id from tree
        )
    )
    and execution.updated_at >= :changed_from
    and execution.updated_at < :changed_before
    and (
        :step_name is null
        or :step_name = (
            select overview.current_step
            from workflow_overview as overview
            where overview.workflow_execution_id = execution.workflow_execution_id
        )
    )
    and (
        :error_text is null
        or instr(lower(execution.error_type), lower(:error_text)) > 0
        or instr(lower(execution.error_message), lower(:error_text)) > 0
        or (
            execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
            and instr(lower(execution.trouble), lower(:error_text)) > 0
        )
        or (
            execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
            and exists (
                select 1
                from workflow_open_steps as open_step
                inner join step_checkpoints as step
                    on open_step.id = step.id
                where
                    open_step.workflow_execution_id = execution.workflow_execution_id
                    and (
                        instr(lower(step.error_type), lower(:error_text)) > 0
                        or instr(lower(step.error_message), lower(:error_text)) > 0
                    )
            )
        )
    )
    and not exists (
        select 1
        from json_each(:tags) as wanted_tag
        where
            not exists (
                select 1
                from workflow_tags as tag
                where
                    tag.workflow_execution_id = execution.workflow_execution_id
                    and tag.name = wanted_tag.key
                    and tag.value = wanted_tag.value
            )
    )
    and not exists (
        select 1
        from json_each(:inputs) as wanted
        where
            not exists (
                select 1
                from (
                    select
                        argument.key as position,
                        argument.type as kind,
                        argument.value as whole,
                        -- Of other arguments SQLite would refuse to take a path.
                        iif(argument.type = 'object', argument.value, '{}') as object
                    from json_each(
                        iif(
                            typeof(execution.input_data) = 'text'
                            and json_valid(execution.input_data),
                            execution.input_data,
                            '[]'
                        )
                    ) as argument
                ) as given
                where
                    json_extract(wanted.value, '$.value') in (
                        case
                            when
                                given.position is not json_extract(
                                    wanted.value, '$.position'
                                )
                                then null
                            when given.kind in ('true', 'false', 'null') then given.kind
                            else cast(given.whole as text)
                        end,
                        case
                        json_type(given.object, json_extract(wanted.value, '$.path'))
                            when 'true' then 'true'
                            when 'false' then 'false'
                            when 'null' then 'null'
                            else cast(
                                json_extract(
                                    given.object, json_extract(wanted.value, '$.path')
                                ) as text
                            )
                        end
                    )
            )
    );

-- name: pick_oldest_unfinished
-- The unfinished executions that were started first.
-- @sort: a page for each workflow and status
-- :row_limit integer
-- =row_number integer
with wanted (status, workflow_id) as (
    select
        unfinished.value as status,
        workflow.workflow_id
    from json_each('["PENDING", "RUNNING", "SUSPENDED", "COMPENSATING"]') as unfinished
    cross join workflows as workflow
)

select
    execution.rowid as row_number,
    execution.workflow_execution_id,
    execution.created_at
from wanted
cross join workflow_executions as execution
where
    execution.rowid in (
        select oldest.rowid
        from workflow_executions as oldest
        where
            oldest.status = wanted.status
            and oldest.workflow_id = wanted.workflow_id
        order by oldest.created_at asc, oldest.rowid asc
        limit :row_limit
    )
order by execution.created_at asc, execution.rowid asc
limit :row_limit;

-- name: load_summaries
-- Where each of some executions is (a JSON array of ids), and what it waits for.
-- @sort: the steps of one execution
-- :workflow_execution_ids text
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
from workflow_overview
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids));

-- name: load_forks
-- Some forks of an execution, in the order in which they were started.
-- :forked_from text
-- :row_limit integer
select
    workflow_execution_id,
    forked_before,
    status,
    created_at
from workflow_executions
where forked_from = :forked_from
order by created_at, workflow_execution_id
limit :row_limit;

-- name: load_children
-- Some children of an execution: those that are not over, then FAILED, CANCELLED and
-- COMPLETED ones, of each the first that were started. One that is paused with its
-- parent comes after those that go on. It goes through the statuses of its children in
-- the index, and takes the first of each.
-- @sort: a page for each status
-- :parent_execution_id text
-- :row_limit integer
-- =workflow_execution_id text
-- =workflow_type text null
-- =version integer null
-- =status text
-- =status_since text
with recursive present (status) as (
    select min(foremost.status) as status
    from workflow_executions as foremost
    where foremost.parent_execution_id = :parent_execution_id
    union all
    select
        (
            select min(next_one.status)
            from workflow_executions as next_one
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
cross join workflow_executions as child
left join workflows as workflow
    on child.workflow_id = workflow.workflow_id
where
    child.rowid in (
        select earliest.rowid
        from workflow_executions as earliest
        where
            earliest.parent_execution_id = :parent_execution_id
            and earliest.status = present.status
        order by earliest.paused_with asc, earliest.rowid asc
        limit :row_limit
    )
order by
    child.status in ('COMPLETED', 'FAILED', 'CANCELLED') asc,
    child.status = 'COMPLETED' asc,
    child.status = 'CANCELLED' asc,
    child.rowid asc
limit :row_limit;

-- name: count_children
-- How many children of an execution have each status, counted no further than to a
-- limit.
-- :parent_execution_id text
-- :at_most integer
-- =status text
-- =total integer
with recursive present (status) as (
    select min(foremost.status) as status
    from workflow_executions as foremost
    where foremost.parent_execution_id = :parent_execution_id
    union all
    select
        (
            select min(next_one.status)
            from workflow_executions as next_one
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
            select 1
            from workflow_executions as counted
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
-- :workflow_execution_id text
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
from workflow_executions
where workflow_execution_id = :workflow_execution_id;

-- name: load_executions_among
-- Some executions (a JSON array of ids), in the order of their ids.
-- :workflow_execution_ids text
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
from workflow_executions
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids))
order by workflow_execution_id;

-- name: load_checkpoints_among
-- Every attempt of every step of some executions (a JSON array of ids): execution by
-- execution, in step order.
-- :workflow_execution_ids text
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
from step_checkpoints
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids))
order by workflow_execution_id, branch, step_index, attempt;

-- name: load_patches_among
-- The patches that some executions (a JSON array of ids) have passed.
-- :workflow_execution_ids text
select
    workflow_execution_id,
    branch,
    patch_name,
    event,
    passed_at
from workflow_patches
where
    workflow_execution_id in (select value from json_each(:workflow_execution_ids))
order by workflow_execution_id, branch, patch_name;

-- name: load_signals
-- Every signal of one execution, delivered or not, in order of arrival.
-- @sort: the signals of one execution
-- :workflow_execution_id text
select
    workflow_signal_id,
    workflow_execution_id,
    signal_name,
    payload,
    status,
    created_at,
    refused_reason,
    signal_key
from workflow_signals
where workflow_execution_id = :workflow_execution_id
order by workflow_signal_id;

-- name: load_next_timers
-- The deadlines that are due next, of what nobody has paused.
-- :row_limit integer
select
    workflow_execution_id,
    workflow_type,
    step_name,
    fire_at
from workflow_due_timers
where is_paused = 0
order by fire_at
limit :row_limit;

-- name: count_pending_timers$
-- How many deadlines are still to come, or to be noticed.
-- =total integer
select count(*) as total
from workflow_timers
where status = 'PENDING';

-- name: load_steps_in_doubt
-- Steps that began and did not end, and that no living worker runs (:living is a JSON
-- array of the ids of living workers). Steps that were cut off or timed out are not
-- among them.
-- @scan step_checkpoints: only planned; the half of the view for FAILED never runs
-- :living text
-- :row_limit integer
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
from workflow_in_doubt
where
    step_status = 'INTENT'
    and (
        worker_id is null
        or worker_id not in (select value from json_each(:living))
    )
limit :row_limit;

-- name: count_steps_in_doubt$
-- How many rows load_steps_in_doubt has to give.
-- @scan step_checkpoints: only planned, as there
-- :living text
-- =total integer
select count(*) as total
from workflow_in_doubt
where
    step_status = 'INTENT'
    and (
        worker_id is null
        or worker_id not in (select value from json_each(:living))
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
from workflow_unresolved
order by asked_at, checkpoint_id
limit :row_limit;

-- name: count_unresolved$
-- How many rows load_unresolved has to give.
-- @scan step_checkpoints: an index that holds only those
-- =total integer
select count(*) as total
from workflow_unresolved;

-- name: load_steps_cut_off
-- Steps that were cancelled while they ran, or timed out, that may have taken effect,
-- and that nothing has undone; except those that a COMPLETED execution has cancelled,
-- and went on without. People find out what became of them.
-- @scan step_checkpoints: an index that holds only those
-- :row_limit integer
-- =started_at text
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
from workflow_in_doubt
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
-- @scan step_checkpoints: an index that holds only those
-- =total integer
select count(*) as total
from workflow_in_doubt
where
    step_status = 'FAILED'
    and (
        status != 'COMPLETED'
        or error_type != 'asyncio.exceptions:CancelledError'
    );

-- name: count_cut_off_of$
-- How many steps of an execution were cut off or timed out, and nobody has dealt with
-- that.
-- :workflow_execution_id text
-- =total integer
select count(*) as total
from workflow_in_doubt
where
    workflow_execution_id = :workflow_execution_id
    and step_status = 'FAILED';

-- name: load_blocked
-- Blocked executions, and why they are, the oldest first: all of them, if the limit is
-- -1. As the view workflow_blocked, which an engine does without. The + keeps SQLite
-- from looking through all that are unfinished for those few.
-- @scan workflow_executions: an index that holds only those
-- @sort: those are few
-- :row_limit integer
-- =workflow_type text null
-- =version integer null
-- =blocked_reason text
select
    execution.workflow_execution_id,
    workflow.workflow_type,
    workflow.version,
    execution.status,
    execution.blocked_reason,
    execution.created_at,
    execution.updated_at
from workflow_executions as execution
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.blocked_reason is not null
    and +execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
order by execution.created_at, execution.workflow_execution_id
limit :row_limit;

-- name: count_blocked$
-- How many executions are blocked.
-- @scan workflow_executions: an index that holds only those
-- =total integer
select count(*) as total
from workflow_blocked;

-- name: load_paused
-- Executions that are paused themselves, those that were started first. `held` is how
-- many below it are held with it, counted no further than to a limit.
-- @scan workflow_executions: an index that holds only those, and its first entries
-- :row_limit integer
-- :at_most integer
-- =workflow_type text null
-- =paused_at text
-- =held integer
-- =workflow_execution_id text
-- =status text
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
            select 1
            from workflow_executions as below
            where
                below.paused_with = execution.workflow_execution_id
                and +below.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
            limit :at_most
        ) as counted
    ) as held
from workflow_executions as execution
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.paused_at is not null
    and +execution.status not in ('COMPLETED', 'FAILED', 'CANCELLED')
order by execution.created_at
limit :row_limit;

-- name: count_paused$
-- How many executions are paused themselves.
-- @scan workflow_executions: an index that holds only those
-- =total integer
select count(*) as total
from workflow_executions
where
    paused_at is not null
    and +status not in ('COMPLETED', 'FAILED', 'CANCELLED');

-- name: load_taken_over
-- Executions that dead workers may have died of at least :least times, with no progress
-- in between, the most often first. Blocked ones are left out, and so are those that
-- only wait.
-- @sort: there are few
-- :least integer
-- :row_limit integer
select
    workflow_execution_id,
    recovery_count
from workflow_executions
where
    status in ('RUNNING', 'COMPENSATING')
    and recovery_count >= :least
    and blocked_reason is null
order by recovery_count desc, created_at asc
limit :row_limit;

-- name: count_taken_over$
-- How many rows load_taken_over has to give.
-- :least integer
-- =total integer
select count(*) as total
from workflow_executions
where
    status in ('RUNNING', 'COMPENSATING')
    and recovery_count >= :least
    and blocked_reason is null;

-- name: load_in_trouble
-- Executions in trouble, the oldest first.
-- @scan workflow_executions: an index that holds only those
-- :row_limit integer
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
from workflow_in_trouble
order by created_at
limit :row_limit;

-- name: count_in_trouble$
-- How many executions are in trouble.
-- @scan workflow_executions: an index that holds only those
-- =total integer
select count(*) as total
from workflow_executions
where
    trouble is not null
    and status not in ('COMPLETED', 'FAILED', 'CANCELLED');

-- name: load_undoing
-- Compensations that have failed and are tried again. Looks at the steps of all that is
-- COMPENSATING.
-- @sort: those are few
-- :row_limit integer
select
    workflow_execution_id,
    workflow_type,
    undoing_since,
    step_name,
    attempts,
    error_message,
    next_try_at
from workflow_undoing
order by undoing_since
limit :row_limit;

-- name: count_undoing$
-- How many rows load_undoing has to give.
-- =total integer
select count(*) as total
from workflow_undoing;

-- name: load_not_undone
-- What should be undone and is not, since a compensation failed for good: what failed
-- last comes first.
-- @scan step_checkpoints: an index that holds only those
-- @sort: those are few
-- :row_limit integer
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
from workflow_not_undone
order by failed_at desc
limit :row_limit;

-- name: count_not_undone$
-- How many rows load_not_undone has to give.
-- @scan step_checkpoints: an index that holds only those
-- =total integer
select count(*) as total
from step_checkpoints
where attempt < 1 and status = 'FAILED';

-- name: load_schema_objects
-- The tables, indexes, views and triggers of a database, as SQLite keeps them.
-- =type text
-- =name text
-- =sql text
select
    type,
    name,
    sql
from sqlite_schema
where substr(name, 1, 7) != 'sqlite_'
order by type, name;

-- name: count_prunable
-- How many finished executions were begun and last changed before a time, by workflow
-- and status: what retention would delete now. Reads all of those statuses.
-- @sort: a row for each workflow and status
-- :statuses text
-- :before text
-- =workflow_type text null
-- =version integer null
-- =total integer
-- =oldest text
select
    workflow.workflow_type,
    workflow.version,
    execution.status,
    count(*) as total,
    min(execution.updated_at) as oldest
from workflow_executions as execution
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
where
    execution.status in (select value from json_each(:statuses))
    and execution.created_at < :before
    and execution.updated_at < :before
group by execution.status, execution.workflow_id
order by workflow.workflow_type, workflow.version, execution.status;

-- name: load_suspect_executions
-- Executions that the engine perhaps cannot read. Somebody wrote a status, a time, a
-- number or JSON into them that is not valid, or a workflow that does not exist. A time
-- is suspect when SQLite writes it otherwise ('+0 days' turns the 30th of February into
-- March). It may be valid: the caller looks closer. Reads the whole table.
-- @scan workflow_executions: the whole table, when an operator asks
-- :row_limit integer
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
from workflow_executions
where
    status not in (
        'PENDING',
        'RUNNING',
        'SUSPENDED',
        'COMPLETED',
        'FAILED',
        'COMPENSATING',
        'CANCELLED'
    )
    or guarantee not in ('FOREGROUND_ONLY', 'BEST_EFFORT_BACKGROUND')
    or typeof(priority) != 'integer'
    or typeof(recovery_count) != 'integer'
    or typeof(current_step) not in ('integer', 'null')
    or typeof(last_event) not in ('integer', 'null')
    or strftime('%Y-%m-%dT%H:%M:%S', created_at, '+0 days')
    is not substr(created_at, 1, 19)
    or strftime('%Y-%m-%dT%H:%M:%S', updated_at, '+0 days')
    is not substr(updated_at, 1, 19)
    or strftime('%Y-%m-%dT%H:%M:%S', ttl_expires_at, '+0 days')
    is not substr(ttl_expires_at, 1, 19)
    or strftime('%Y-%m-%dT%H:%M:%S', available_at, '+0 days')
    is not substr(available_at, 1, 19)
    or strftime('%Y-%m-%dT%H:%M:%S', started_at, '+0 days')
    is not substr(started_at, 1, 19)
    or strftime('%Y-%m-%dT%H:%M:%S', paused_at, '+0 days')
    is not substr(paused_at, 1, 19)
    or (
        status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
        and input_data is not null
        and not iif(typeof(input_data) = 'text', json_valid(input_data), 0)
    )
    or not exists (
        select 1
        from workflows
        where workflows.workflow_id = workflow_executions.workflow_id
    )
limit :row_limit;

-- name: load_suspect_checkpoints
-- As load_suspect_executions: checkpoints of the executions that are not over.
-- :row_limit integer
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
from workflow_executions as execution
cross join step_checkpoints as step
    on execution.workflow_execution_id = step.workflow_execution_id
where
    execution.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and (
        step.status not in ('INTENT', 'COMPLETED', 'FAILED', 'COMPENSATED')
        or step.kind not in ('STEP', 'SLEEP', 'SIGNAL')
        or typeof(step.step_index) != 'integer'
        or typeof(step.attempt) != 'integer'
        or typeof(step.event) not in ('integer', 'null')
        or strftime('%Y-%m-%dT%H:%M:%S', step.started_at, '+0 days')
        is not substr(step.started_at, 1, 19)
        or strftime('%Y-%m-%dT%H:%M:%S', step.completed_at, '+0 days')
        is not substr(step.completed_at, 1, 19)
        or strftime('%Y-%m-%dT%H:%M:%S', step.due_at, '+0 days')
        is not substr(step.due_at, 1, 19)
        or (
            step.output_data is not null
            and not iif(
                typeof(step.output_data) = 'text', json_valid(step.output_data), 0
            )
        )
    )
limit :row_limit;

-- name: load_suspect_timers
-- As load_suspect_executions: timers of the executions that are not over.
-- :row_limit integer
select
    timer.workflow_timer_id,
    timer.workflow_execution_id,
    timer.step_name,
    timer.fire_at,
    timer.status,
    timer.created_at
from workflow_executions as execution
cross join workflow_timers as timer
    on execution.workflow_execution_id = timer.workflow_execution_id
where
    execution.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and (
        timer.status not in ('PENDING', 'FIRED', 'CANCELLED')
        or strftime('%Y-%m-%dT%H:%M:%S', timer.fire_at, '+0 days')
        is not substr(timer.fire_at, 1, 19)
        or strftime('%Y-%m-%dT%H:%M:%S', timer.created_at, '+0 days')
        is not substr(timer.created_at, 1, 19)
    )
limit :row_limit;

-- name: load_suspect_signals
-- As load_suspect_executions: signals that the executions which are not over may still
-- take.
-- :row_limit integer
select
    signal.workflow_signal_id,
    signal.workflow_execution_id,
    signal.signal_name,
    signal.payload,
    signal.status,
    signal.created_at,
    signal.refused_reason,
    signal.signal_key
from workflow_executions as execution
cross join workflow_signals as signal
    on execution.workflow_execution_id = signal.workflow_execution_id
where
    execution.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    and signal.status not in ('DELIVERED', 'EXPIRED', 'REFUSED')
    and (
        signal.status != 'PENDING'
        or strftime('%Y-%m-%dT%H:%M:%S', signal.created_at, '+0 days')
        is not substr(signal.created_at, 1, 19)
        or (
            signal.payload is not null
            and not iif(typeof(signal.payload) = 'text', json_valid(signal.payload), 0)
        )
    )
limit :row_limit;

-- name: load_gaps
-- Executions of some statuses (a JSON array) whose steps have a gap: the number of an
-- event is left out or there twice, an attempt is missing, or a compensation has no
-- step. Somebody deleted or edited rows by hand; but a number is also left out where
-- the store refused an outcome at first. Reads all steps of these executions.
-- @scan workflow_executions: with statistics, the whole table
-- :statuses text
-- :row_limit integer
select
    execution.workflow_execution_id,
    execution.last_event
from workflow_executions as execution
where
    execution.status in (select value from json_each(:statuses))
    and (
        select
            sum(place.events) != coalesce(max(place.last_event), 0)
            or 2 * sum(place.numbers)
            != max(place.last_event) * (max(place.last_event) + 1)
            or max(place.attempts != place.last_attempt or place.last_attempt = 0)
            or coalesce(execution.last_event, 0) > coalesce(max(place.last_event), 0)
        from (
            select
                count(step.event) as events,
                sum(step.event) as numbers,
                max(step.event) as last_event,
                sum(step.attempt > 0) as attempts,
                max(step.attempt) as last_attempt
            from step_checkpoints as step
            where step.workflow_execution_id = execution.workflow_execution_id
            group by step.branch, step.step_index
        ) as place
    )
limit :row_limit;

-- name: load_refused_signals
-- Executions that wait for a signal, or for the answer to a question, while the last
-- one of that name was refused.
-- @scan step_checkpoints: an index that holds only the waits
-- :row_limit integer
-- =workflow_execution_id text
-- =signal_name text
-- =workflow_signal_id integer
with awaited as (
    select
        wait.workflow_execution_id,
        wait.step_name as signal_name
    from step_checkpoints as wait
    where
        wait.kind = 'SIGNAL'
        and wait.status = 'INTENT'
    union all
    select
        question.workflow_execution_id,
        '$resolved' as signal_name
    from workflow_unresolved as question
)

select
    awaited.workflow_execution_id,
    signal.signal_name,
    signal.workflow_signal_id,
    signal.refused_reason
from awaited
cross join workflow_signals as signal
where
    signal.workflow_signal_id = (
        select max(refused.workflow_signal_id)
        from workflow_signals as refused
        where
            refused.workflow_execution_id = awaited.workflow_execution_id
            and refused.status = 'REFUSED'
            and refused.signal_name = awaited.signal_name
    )
    and not exists (
        select 1
        from workflow_signals as later
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
-- @scan workflow_signals: an index from end to end, when an operator asks
-- :cancel_signal text
-- :resolved_signal text
-- :row_limit integer
select
    signal.workflow_signal_id,
    signal.workflow_execution_id,
    signal.signal_name,
    execution.status
from workflow_signals as signal
cross join workflow_executions as execution
    on signal.workflow_execution_id = execution.workflow_execution_id
where
    signal.status = 'PENDING'
    and (
        execution.status in ('COMPLETED', 'FAILED', 'CANCELLED')
        or (
            signal.signal_name glob '$*'
            and signal.signal_name not glob '$child:*'
            and signal.signal_name not in (:cancel_signal, :resolved_signal)
            and not (
                signal.signal_name glob '$answer:*'
                and exists (
                    select 1
                    from step_checkpoints as asked
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
-- @scan workflow_signals: all signals, when an operator asks
-- :before text
-- :row_limit integer
-- =worker_id text null
select
    signal.workflow_execution_id,
    signal.signal_name,
    claim.worker_id
from workflow_signals as signal
cross join workflow_executions as execution
    on signal.workflow_execution_id = execution.workflow_execution_id
left join workflow_claims as claim
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
        from step_checkpoints as awaited
        where
            awaited.workflow_execution_id = signal.workflow_execution_id
            and awaited.step_name = signal.signal_name
            and awaited.kind = 'SIGNAL'
            and awaited.status = 'INTENT'
    )
limit :row_limit;

-- name: load_workers
-- Who some workers are (a JSON array of ids). The ids of living ones are known from
-- their lock files.
-- @sort: those that are asked for
-- :worker_ids text
select
    worker_number,
    worker_id,
    host,
    process_id,
    program,
    started_at,
    max_concurrent
from workflow_workers
where worker_id in (select value from json_each(:worker_ids))
order by worker_number;

-- name: load_served
-- What some workers run (a JSON array of numbers).
-- :worker_numbers text
select
    worker_number,
    workflow_type,
    version
from workflow_worker_workflows
where worker_number in (select value from json_each(:worker_numbers))
order by worker_number, workflow_type, version;

-- name: load_served_queues
-- Which named queues some workers serve (a JSON array of numbers).
-- :worker_numbers text
select
    worker_number,
    queue
from workflow_worker_queues
where worker_number in (select value from json_each(:worker_numbers))
order by worker_number, queue;

-- name: count_claims_by_worker
-- How many executions each worker has claimed. Reads all claims, by their index.
-- @scan workflow_claims: an index alone, a row for each claim
-- =total integer
select
    worker_id,
    count(*) as total
from workflow_claims
group by worker_id;

-- name: load_claimed_by
-- Some of the executions that a worker has claimed, the last changed first.
-- @scan workflow_claims: a row for each claim
-- @sort: of the claims of one worker
-- :row_limit integer
select
    claim.workflow_execution_id,
    execution.updated_at
from workflow_claims as claim
inner join workflow_executions as execution
    on claim.workflow_execution_id = execution.workflow_execution_id
where claim.worker_id = :worker_id
order by execution.updated_at desc
limit :row_limit;

-- name: load_claim_of^
-- Who has claimed an execution, and since when: for people, who hold nothing by that.
-- :workflow_execution_id text
select
    worker_id,
    fencing_token,
    claimed_at
from workflow_claims
where workflow_execution_id = :workflow_execution_id;

-- name: load_work_under_way
-- What workers do now: the claimed executions that run, each with its steps that have
-- begun and not ended, and with those that wait (waiting_for is not null). One between
-- two steps has neither; or it waits for its children to be over, before it is undone.
-- @scan workflow_claims: a row for each claim
-- =workflow_type text null
-- =step_name text null
-- =attempt integer null
-- =waits_for_children integer
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
        from workflow_executions as child
        where
            child.parent_execution_id = execution.workflow_execution_id
            and child.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
            and child.on_parent_end = 'cancel'
    ) as waits_for_children
from workflow_claims as claim
cross join workflow_executions as execution
    on claim.workflow_execution_id = execution.workflow_execution_id
left join workflows as workflow
    on execution.workflow_id = workflow.workflow_id
left join workflow_open_steps as step
    on execution.workflow_execution_id = step.workflow_execution_id
where execution.status in ('RUNNING', 'COMPENSATING');

-- name: load_queues
-- The workflows that have unfinished executions: how many of these are due, run, are in
-- trouble, or are blocked. count_unfinished tells how many there are in all.
-- @scan workflow_executions: the indexes of those in trouble, or blocked
-- @scan workflow_claims: a row for each claim
-- @sort: a row for each workflow
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
from workflow_queue
order by workflow_type, version;

-- name: count_unfinished
-- How many executions of each workflow are not over, as count_executions tells, too.
-- Reads an index.
-- @scan workflow_executions: the indexes of those in trouble, or blocked
-- @scan workflow_claims: a row for each claim
-- @sort: a row for each workflow
select
    workflow_type,
    version,
    unfinished
from workflow_queue;

-- name: load_open_of_completed
-- Steps, sleeps and waits that have begun and not ended, of executions that are
-- COMPLETED: the last attempt of each. An execution that the engine ended has none.
-- Looks through all steps of COMPLETED executions.
-- :row_limit integer
select
    step.workflow_execution_id,
    step.step_name
from step_checkpoints as step
inner join workflow_executions as execution
    on step.workflow_execution_id = execution.workflow_execution_id
where
    step.status = 'INTENT'
    and execution.status = 'COMPLETED'
    and not exists (
        select 1
        from step_checkpoints as later
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
-- @scan workflow_executions: all of a status, when an operator asks
-- :statuses text
-- :row_limit integer
-- =workflow_execution_id text
-- =what text
-- =step_name text null
select
    execution.workflow_execution_id,
    'open' as what,
    step.step_name
from workflow_executions as execution
cross join step_checkpoints as step
    on execution.workflow_execution_id = step.workflow_execution_id
where
    execution.status in (select value from json_each(:statuses))
    and step.status = 'INTENT'
    and step.kind != 'STEP'
union all
select
    execution.workflow_execution_id,
    'not undone' as what,
    step.step_name
from workflow_executions as execution
cross join step_checkpoints as step
    on execution.workflow_execution_id = step.workflow_execution_id
where
    execution.status in (select value from json_each(:statuses))
    and step.status = 'COMPLETED'
    and step.attempt > 0
    and step.compensate_ref is not null
    and not exists (
        select 1
        from step_checkpoints as undone
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
from workflow_executions as execution
where
    execution.status = 'FAILED'
    and execution.error_type is null
    and execution.error_message is null
limit :row_limit;

-- name: load_numbered_intents
-- Attempts and waits that have not ended, and have the number of an outcome.
-- Of unfinished executions.
-- :row_limit integer
select
    step.workflow_execution_id,
    step.step_name
from workflow_executions as execution
cross join step_checkpoints as step
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
-- @scan workflow_executions: all that are unfinished, when an operator asks
-- :child_signal text
-- :row_limit integer
-- =workflow_execution_id text
-- =what text
-- =step_name text null
select
    execution.workflow_execution_id,
    'child' as what,
    step.step_name
from workflow_executions as execution
cross join step_checkpoints as step
    on execution.workflow_execution_id = step.workflow_execution_id
where
    execution.status in ('PENDING', 'RUNNING', 'SUSPENDED')
    and step.status = 'INTENT'
    and step.kind = 'SIGNAL'
    and step.attempt > 0
    and substr(step.step_name, 1, length(:child_signal)) = :child_signal
    and not exists (
        select 1
        from workflow_executions as child
        where
            child.workflow_execution_id
            = substr(step.step_name, length(:child_signal) + 1)
            and child.parent_execution_id = execution.workflow_execution_id
            and child.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    )
    and not exists (
        select 1
        from workflow_signals as told
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
from workflow_executions as execution
cross join step_checkpoints as step
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
from workflow_executions as execution
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
            from workflow_timers as timer
            where
                timer.workflow_execution_id = execution.workflow_execution_id
                and timer.status = 'PENDING'
        )
    )
    and not exists (
        select 1
        from workflow_claims as claim
        where claim.workflow_execution_id = execution.workflow_execution_id
    )
limit :row_limit;

-- name: load_unblocked_without_rows
-- Unfinished executions that somebody unblocked although rows of their steps were
-- missing, and which rows.
-- @scan workflow_audit_log: a row for each thing that people did
-- :row_limit integer
-- =workflow_execution_id text
-- =missing text
select
    entry.workflow_execution_id,
    json_extract(entry.details, '$.missing') as missing
from workflow_audit_log as entry
where
    entry.act = 'unblock'
    and entry.workflow_execution_id is not null
    and json_extract(entry.details, '$.missing') is not null
    and exists (
        select 1
        from workflow_executions as execution
        where
            execution.workflow_execution_id = entry.workflow_execution_id
            and +execution.status in ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPENSATING')
    )
limit :row_limit;

-- name: load_token_sequence
-- The highest fencing token that was ever given, as SQLite keeps it; the highest that
-- is in use, each 0 if there is none; and whether a worker has begun a step here, and
-- so had one. A step that was moved here began elsewhere.
-- @scan step_checkpoints: from the end, and one row of it
-- =given integer
-- =used integer
-- =has_begun integer
select
    coalesce(
        (
            select max(sqlite_sequence.seq)
            from sqlite_sequence
            where sqlite_sequence.name = 'workflow_claims'
        ),
        0
    ) as given,
    coalesce(
        (select max(workflow_claims.fencing_token) from workflow_claims), 0
    ) as used,
    coalesce(
        (
            select
                newest.worker_number is not null
                and not exists (
                    select 1
                    from workflow_moves as move
                    where
                        move.direction = 'IN'
                        and (
                            move.finished_at is null
                            or move.finished_at >= newest.started_at
                        )
                )
            from step_checkpoints as newest
            order by newest.id desc
            limit 1
        ),
        0
    ) as has_begun;

-- name: load_attempt_workers
-- Which worker began each attempt of an execution, as far as it is known.
-- :workflow_execution_id text
-- =worker_number integer
-- =worker text
select
    checkpoint_id,
    worker_number,
    worker
from workflow_timeline
where
    workflow_execution_id = :workflow_execution_id
    and worker_number is not null
    and worker is not null;
