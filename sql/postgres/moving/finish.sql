-- After all rows have come in: makes what was put off, and goes on with the numbers that
-- the tables give.

do $$
declare
    script text;
    name regclass;
    numbered record;
begin
    select put_off
    into script
    from durable_workflow.workflow_moves
    where direction = 'IN';
    execute coalesce(script, '');

    for name in
        select pg_class.oid
        from pg_class
        where
            pg_class.relnamespace = cast('durable_workflow' as regnamespace)
            and pg_class.relkind = 'r'
    loop
        execute format('alter table %s enable trigger user', name);
    end loop;

    for numbered in
        select
            pg_class.oid as its_table,
            pg_attribute.attname as its_column,
            pg_get_serial_sequence(
                cast(cast(pg_class.oid as regclass) as text),
                cast(pg_attribute.attname as text)
            ) as its_sequence
        from pg_class
        inner join pg_attribute on pg_class.oid = pg_attribute.attrelid
        where
            pg_class.relnamespace = cast('durable_workflow' as regnamespace)
            and pg_class.relkind = 'r'
            and pg_attribute.attidentity = 'd'
    loop
        execute format(
            'select setval(%L, max(%I)) from %s having max(%I) is not null',
            numbered.its_sequence,
            numbered.its_column,
            cast(numbered.its_table as regclass),
            numbered.its_column
        );
    end loop;
end;
$$;
