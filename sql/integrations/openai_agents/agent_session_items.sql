-- The items of sessions of the OpenAI Agents SDK, in a table beside those of the library. Its name
-- here is the default; the code that opens a session may give another.

-- name: has_table$
-- Says whether the table of the items is there.
select count(*)
from sqlite_master
where type = 'table' and :name in (name, 'main.' || name);

-- name: lock$
-- Waits for others who do the same; here the transaction has locked the whole file already.
select length(:name);

-- name: create_table#
-- Creates the table: each item has the next number of its session.
create table agent_session_items (
    session_id text    not null,
    number     integer not null,
    item       text    not null,
    added_at   text    not null,
    primary key (session_id, number)
) without rowid;

-- name: last_number$
-- Finds the number of the last item of a session; 0 for one without items.
select coalesce(max(number), 0) from agent_session_items
where session_id = :session_id;

-- name: insert_item!
-- Adds an item, as JSON or as a codec has encoded that.
insert into agent_session_items (session_id, number, item, added_at)
values (:session_id, :number, :item, :added_at);

-- name: select_items
-- The last items of a session, the newest first.
select
    number,
    item
from agent_session_items
where session_id = :session_id
order by number desc
limit :limit;

-- name: delete_item!
-- Takes one item out of a session.
delete from agent_session_items
where session_id = :session_id and number = :number;

-- name: delete_items!
-- Empties a session.
delete from agent_session_items
where session_id = :session_id;
