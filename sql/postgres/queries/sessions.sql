-- What only PostgreSQL needs: it has many writers at a time, and its server knows which
-- sessions live. It also has a table of the migrations that were applied.

-- name: hold_execution^
-- Nobody else changes or claims an execution until the transaction ends.
select workflow_execution_id
from durable_workflow.workflow_executions
where workflow_execution_id = :workflow_execution_id
for no key update;

-- name: hold$
-- No other transaction holds the same thing until this one ends. Two things that share
-- a hash wait for each other, which costs time and nothing else.
select cast(pg_advisory_xact_lock(hashtext(:kind), hashtext(:name)) as text) as held;

-- name: become_alive$
-- This session holds the lock of a worker from now on, until it ends. False means that
-- another session holds it.
select pg_try_advisory_lock(:lock_key) as is_held;

-- name: become_dead$
-- This session gives the lock of a worker back: before it ends, since the server may
-- take some milliseconds to notice that.
select pg_advisory_unlock(:lock_key) as was_held;

-- name: is_dead$
-- Whether a worker has no lease, and no session holds its lock.
select
    not exists (
        select 1
        from durable_workflow.workflow_leases
        where
            worker_id = :worker_id
            and expires_at > clock_timestamp()
    )
    and pg_try_advisory_xact_lock_shared(:lock_key) as is_dead;

-- name: renew_lease!
-- A worker behind a pooler lives for so many seconds more.
insert into durable_workflow.workflow_leases (worker_id, expires_at)
values (:worker_id, clock_timestamp() + make_interval(secs => :seconds))
on conflict (worker_id) do update
    set expires_at = excluded.expires_at;

-- name: delete_old_leases!
-- Deletes the leases that ended a day ago.
delete from durable_workflow.workflow_leases
where expires_at < clock_timestamp() - interval '1 day';

-- name: delete_lease!
-- A worker behind a pooler ends.
delete from durable_workflow.workflow_leases
where worker_id = :worker_id;

-- name: count_alive$
-- How many workers hold locks in sessions of this database, or have leases. :lock_space
-- is the first 16 bits of the keys of the locks.
select
    (
        select count(*)
        from pg_locks
        where
            locktype = 'advisory'
            and objsubid = 1
            and mode = 'ExclusiveLock'
            and granted
            and cast(classid as bigint) >> 16 = :lock_space
            and database = (
                select oid from pg_database
                where datname = current_database()
            )
    )
    + (
        select count(*)
        from durable_workflow.workflow_leases
        where expires_at > clock_timestamp()
    ) as alive;

-- name: tell_others$
-- Wakes the stores that listen, after the commit of what they wait for.
select cast(pg_notify(:channel, '') as text) as told;

-- name: is_there$
-- Whether a table is there, whose name is given with that of its schema.
select to_regclass(:table_name) is not null as is_there;

-- name: load_schema_version$
-- The last migration that was applied; null where none was.
select max(version) as version
from durable_workflow.workflow_migrations;

-- name: insert_migration!
-- A migration is applied, in the transaction that applies it.
insert into durable_workflow.workflow_migrations (version, name)
values (:version, :name);

-- name: load_living_keys
-- The keys of the locks that workers hold in this database, and those that the workers
-- with leases would hold. :lock_space is the first 16 bits of the keys.
select (cast(classid as bigint) << 32) | cast(objid as bigint) as lock_key
from pg_locks
where
    locktype = 'advisory'
    and objsubid = 1
    and mode = 'ExclusiveLock'
    and granted
    and cast(classid as bigint) >> 16 = :lock_space
    and database = (
        select oid from pg_database
        where datname = current_database()
    )
union all
select
    (cast(:lock_space as bigint) << 48)
    | cast(cast('x' || substr(worker_id, 1, 12) as bit(48)) as bigint) as lock_key
from durable_workflow.workflow_leases
where expires_at > clock_timestamp();

-- name: load_version_of_data$
-- A number that is another one whenever somebody has written to the server since.
select hashtextextended(cast(pg_current_snapshot() as text), 0) as version;

-- name: load_size$
-- How many bytes the tables and indexes of the schema have on the disk.
select cast(coalesce(sum(pg_total_relation_size(relation.oid)), 0) as bigint) as size
from pg_class as relation
where
    relation.relnamespace = cast('durable_workflow' as regnamespace)
    and relation.relkind = 'r';

-- name: load_server^
-- What the operator of a server should know of it, and of the settings of this session.
select
    current_setting('server_version') as version,
    current_setting('fsync') = 'on' as keeps_commits,
    current_setting('jit') = 'on' as compiles,
    current_setting('lock_timeout') = '0' as waits_for_locks,
    current_setting('idle_in_transaction_session_timeout') = '0' as waits_for_clients,
    pg_is_in_recovery() as is_replica,
    (select count(*) from pg_stat_activity) as connections,
    cast(current_setting('max_connections') as bigint) as max_connections,
    current_setting('server_encoding') as encoding;

-- name: load_long_transactions
-- The transactions of this database that have been open since before a time, and hold
-- locks on tables of the schema.
select
    cast(session.pid as bigint) as process,
    cast(coalesce(session.usename, '?') as text) as user_name,
    coalesce(session.application_name, '') as application,
    coalesce(session.state, '?') as state,
    session.xact_start as began_at
from pg_stat_activity as session
where
    session.datname = current_database()
    and session.pid != pg_backend_pid()
    and session.xact_start < :before
    and exists (
        select 1
        from pg_locks as held
        inner join pg_class as relation
            on held.relation = relation.oid
        where
            held.pid = session.pid
            and held.granted
            and relation.relnamespace = cast('durable_workflow' as regnamespace)
    )
order by session.xact_start;

-- name: load_identity$
-- Which database of which server this is: the same on each way that leads there.
select concat(control.system_identifier, '/', pg_database.oid) as identity
from pg_control_system() as control
cross join pg_database
where pg_database.datname = current_database();
