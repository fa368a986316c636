-- The lists of statuses. SQL has no constants, so a query, an index or a view writes its
-- list out. `make generate` refuses a list in a query or a view that does not stand here
-- in the same order. It also refuses a value that its column never has.

-- workflow_executions.status
--
-- unfinished   PENDING, RUNNING, SUSPENDED, COMPENSATING: it is not over
-- final        COMPLETED, FAILED, CANCELLED: it is over
-- at work      RUNNING, COMPENSATING: what a worker does something about
-- to be run    PENDING, RUNNING, COMPENSATING: all that is not over and does not only wait
-- to be ended  PENDING, RUNNING, SUSPENDED: what can be asked to cancel
-- waiting      PENDING, SUSPENDED: what has not begun, or only waits
-- ends others  COMPENSATING, COMPLETED, FAILED, CANCELLED: its children end with it
-- undone       FAILED, CANCELLED: what COMPENSATING ends in

-- workflow_signals.status
--
-- past         DELIVERED, EXPIRED, REFUSED: no wait takes it any more
-- may be read  PENDING, DELIVERED: no wait has refused it
-- open         PENDING, REFUSED: no wait has taken it

-- workflow_timers.status
--
-- past         FIRED, CANCELLED: nothing is due any more
