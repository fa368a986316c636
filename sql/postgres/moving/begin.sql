-- Before rows come in: puts off what slows that down, and what would change the rows.
-- The text that makes the indexes again is kept in workflow_moves until the end. Primary
-- keys and foreign keys stay.

update durable_workflow.workflow_moves
set
    put_off = (
        select string_agg(pg_get_indexdef(index_of.indexrelid), ';')
        from pg_index as index_of
        where
            index_of.indrelid in (
                select pg_class.oid
                from pg_class
                where
                    pg_class.relnamespace = cast('durable_workflow' as regnamespace)
                    and pg_class.relkind = 'r'
            )
            and not exists (
                select 1
                from pg_constraint
                where pg_constraint.conindid = index_of.indexrelid
            )
    )
where direction = 'IN';

do $$
declare
    name regclass;
begin
    for name in
        select index_of.indexrelid
        from pg_index as index_of
        where
            index_of.indrelid in (
                select pg_class.oid
                from pg_class
                where
                    pg_class.relnamespace = cast('durable_workflow' as regnamespace)
                    and pg_class.relkind = 'r'
            )
            and not exists (
                select 1
                from pg_constraint
                where pg_constraint.conindid = index_of.indexrelid
            )
    loop
        execute format('drop index %s', name);
    end loop;

    for name in
        select pg_class.oid
        from pg_class
        where
            pg_class.relnamespace = cast('durable_workflow' as regnamespace)
            and pg_class.relkind = 'r'
    loop
        execute format('alter table %s disable trigger user', name);
    end loop;
end;
$$;
