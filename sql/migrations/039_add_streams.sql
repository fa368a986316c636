-- A stream is what an attempt of a step tells while it runs, such as the words of an
-- answer. A row is one item of it, which any process can read at once.

create table workflow_stream_items (
    workflow_stream_item_id integer primary key autoincrement,
    workflow_execution_id   text    not null,
    branch                  text    not null default '',
    step_index              integer not null,
    step_name               text    not null,
    attempt                 integer not null default 1,
    run_number              integer not null default 1,
    written_under           integer not null default 0,
    item                    text    not null,
    created_at              text    not null
    default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
    foreign key (
        workflow_execution_id
    ) references workflow_executions (workflow_execution_id),
    constraint step_index_is_0_or_more check (step_index >= 0),
    constraint step_name_is_not_empty check (step_name != ''),
    constraint attempt_is_1_or_more check (attempt >= 1),
    constraint run_number_is_1_or_more check (run_number >= 1),
    constraint item_is_json check (json_valid(item)),
    constraint created_at_is_a_time
    check (created_at glob '????-??-??T??:??:??.??????Z')
) strict;

-- The items of an execution, in order.

create index idx_wf_stream_of_execution on workflow_stream_items (
    workflow_execution_id, workflow_stream_item_id
);
