-- Named queues. An execution may be in one, with a key. workflow_limits has the limits of
-- each queue.
--
-- A slot of a queue is held by a claim: the claim names the queue and the key while the
-- code of its execution runs. So a slot is taken with the claim, and is free again when
-- the claim is released, whoever releases it. A claim whose execution only waits names no
-- queue.
--
-- In idx_wf_exec_available, the executions without a queue come first, so that they are
-- found as before. Another index finds those in a queue by their keys.

create table workflow_limits (
    kind        text not null,
    name        text not null,
    concurrency integer,
    per_worker  integer,
    per_key     integer,
    declared    text,
    created_at  text not null
    default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
    updated_at  text not null
    default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
    primary key (kind, name),
    constraint kind_is_known check (kind = 'QUEUE' or kind = 'STEP'),
    constraint name_is_not_empty check (name != ''),
    constraint concurrency_is_1_or_more check (concurrency >= 1),
    constraint per_worker_is_1_or_more check (per_worker >= 1),
    constraint per_key_is_1_or_more check (per_key >= 1),
    constraint declared_is_json check (declared is null or json_valid(declared)),
    constraint created_at_is_a_time
    check (created_at glob '????-??-??T??:??:??.??????Z'),
    constraint updated_at_is_a_time
    check (updated_at glob '????-??-??T??:??:??.??????Z')
) strict, without rowid;

alter table workflow_executions add column queue text;

alter table workflow_executions add column queue_key text;

alter table workflow_claims add column queue text;

alter table workflow_claims add column queue_key text;

drop index if exists idx_wf_exec_available;

create index idx_wf_exec_available
on workflow_executions (queue, workflow_id, priority, available_at)
where available_at is not null;

create index idx_wf_exec_available_key
on workflow_executions (queue, queue_key, workflow_id, priority, available_at)
where available_at is not null and queue is not null;

create index idx_wf_claim_queue on workflow_claims (queue, queue_key)
where queue is not null;

-- The view workflow_queue counts the executions in named queues, too. The view
-- workflow_named_queues has a row for each of these queues.
