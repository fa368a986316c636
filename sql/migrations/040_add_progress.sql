-- The progress of a step or of a workflow function is how much of its work is done. A
-- row is the newest report of one of them; it is not a part of the history.

create table workflow_progress_reports (
    workflow_progress_report_id integer primary key autoincrement,
    workflow_execution_id       text    not null,
    branch                      text    not null default '',
    step_index                  integer not null default -1,
    step_name                   text    not null default '',
    attempt                     integer not null default 0,
    done                        real    not null,
    total                       real,
    note                        text,
    reported_at                 text    not null
    default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
    foreign key (
        workflow_execution_id
    ) references workflow_executions (workflow_execution_id),
    constraint a_step_has_index_name_and_attempt check (
        (step_index = -1 and step_name = '' and attempt = 0)
        or (step_index >= 0 and step_name != '' and attempt >= 1)
    ),
    constraint done_is_0_or_more check (done >= 0 and done <= 1.7e308),
    constraint total_is_more_than_0 check (total > 0 and total <= 1.7e308),
    constraint reported_at_is_a_time
    check (reported_at glob '????-??-??T??:??:??.??????Z')
) strict;

-- One report of each step, and of each branch of the workflow function.

create unique index idx_wf_progress_of_execution on workflow_progress_reports (
    workflow_execution_id, branch, step_index
);
