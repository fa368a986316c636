"""A store of dicts, in memory, with nothing of SQLite: that the engine needs the roles and no more.

Its methods, their arguments and their results are those of the protocol. A write changes a copy,
which takes the place of what was there when it has succeeded. A worker lives until it is closed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec

import durable_workflow_sqlite as d
from durable_workflow_sqlite.records import CUT_OFF, MAX_INTEGER, check_identifier, check_integer

change = msgspec.structs.replace
BACKGROUND, FINAL = "BEST_EFFORT_BACKGROUND", ("COMPLETED", "FAILED", "CANCELLED")
PROGRESS = {"status", "current_step", "error_type", "error_message", "last_event", "updated_at"}
UNDER_A_CLAIM = PROGRESS | {"output_data", "recovery_count", "blocked_reason"}
MENDED = PROGRESS | {"ttl_expires_at"}
RESET = {"recovery_count": 0, "blocked_reason": None, "trouble": None, "available_at": None}
_numbers = itertools.count(1)


class Row(SimpleNamespace):
    """An execution, or None, and all that belongs to it."""

    def __init__(self, execution=None, steps=(), timers=(), signals=(), tags=(), log=(), **more):
        kept = {"steps": steps, "timers": timers, "signals": signals, "tags": tags, "log": log}
        super().__init__(execution=execution, **{name: dict(one) for name, one in kept.items()})
        self.claim, self.acknowledged = more.get("claim"), set(more.get("acknowledged", ()))

    def set(self, **values):
        self.execution = change(self.execution, **values)

    def pending(self, *names):
        found = [one for one in self.signals.values() if one.status == "PENDING"]
        return [one for one in found if not names or one.signal_name in names]

    def waits(self, name):
        steps = [one for one in self.in_order() if one.step_name == name]
        return [one for one in steps if one.kind == "SIGNAL" and one.status == "INTENT"]

    def in_order(self):
        return [self.steps[key] for key in sorted(self.steps)]

    def due(self):
        pending = [one for one in self.timers.values() if one.status == "PENDING"]
        return sorted(pending, key=lambda timer: timer.fire_at)

    def wakes_at(self, now=None):
        steps = self.steps.values()
        waits = [one for one in steps if one.kind != "STEP" and one.status == "INTENT"]
        times = [timer.fire_at for timer in self.due()] + [one.due_at for one in waits]
        times += [self.execution.ttl_expires_at, None if self.due() or waits else now]
        return min(filter(None, times), default=None)

    def taken(self):
        return self.execution and d.TakenExecution(
            execution=self.execution,
            checkpoints=self.in_order(),
            pending_timers=self.due(),
            is_to_cancel=bool(self.pending("$cancel")),
        )

    def is_for_it(self, signal):
        waits = self.execution.status != "SUSPENDED" or self.waits(signal.signal_name)
        return signal.signal_name[0] == "$" or waits

    def is_final(self):
        return self.execution.status in FINAL

    def is_free(self):
        may_be = self.execution.guarantee == BACKGROUND and not self.is_final()
        return may_be and self.execution.blocked_reason is None and self.claim is None

    def put_into_queue(self, now):
        if self.is_free():
            is_waiting = self.execution.status == "SUSPENDED"
            if is_waiting and not any(map(self.is_for_it, self.pending())):
                now = self.wakes_at(now)
            self.set(available_at=now)

    def let_rest(self):
        self.claim = None
        for one in self.due():
            self.timers[one.workflow_timer_id] = change(one, status=d.TimerStatus.CANCELLED)
        for one in self.pending():
            self.signals[one.workflow_signal_id] = change(one, status=d.SignalStatus.EXPIRED)

    def expect_signals(self):
        for number, one in self.signals.items():
            if one.status == "EXPIRED" and one.signal_name[0] != "$":
                self.signals[number] = change(one, status=d.SignalStatus.PENDING)

    def may_have_killed(self):
        last = {}
        for (branch, index, attempt), one in sorted(self.steps.items()):
            if one.kind == "STEP":
                last[branch, index, min(attempt, 1)] = one
        if self.execution.status == "SUSPENDED" or self.claim.is_stopping:
            return False
        if any(s.status == "INTENT" and (s.attempt or not s.due_at) for s in last.values()):
            return True
        has_written = self.execution.updated_at > self.claim.at
        return not any(
            one.due_at and one.status == ("FAILED" if one.attempt else "INTENT")
            for one in last.values()
            if has_written or (one.started_at and one.started_at >= self.claim.at)
        )


class Dicts:
    """What outlives the stores: all that was committed."""

    def __init__(self):
        self.tables = SimpleNamespace(workflows={}, rows={}, numbers=Counter())
        self.living, self.written, self.served = set(), Counter(), {}

    def commit(self, tables, worker):
        self.tables = tables
        self.written[worker] += 1


def as_stored(record):
    """With its times in UTC. Raises SerializationError for data that is not JSON."""
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    for name in {"input_data", "output_data", "payload", "details"} & values.keys():
        try:
            msgspec.json.decode("null" if values[name] is None else values[name])
        except msgspec.DecodeError as error:
            raise d.SerializationError(f"{name} is not valid json: {error}") from None
    times = {name: t.astimezone(UTC) for name, t in values.items() if isinstance(t, datetime)}
    return change(record, **times)


def conflict(one, why):
    return d.ExecutionConflictError(f"execution {one!r} {why}", workflow_execution_id=one)


def check_signal(signal):
    if signal.signal_name[0] == "$" and signal.signal_name != "$cancel":
        raise ValueError(f"{signal.signal_name!r} is reserved")


def of_one(load):
    async def load_of_one(self, one, *more):
        return load(self._row(one), *more)

    return load_of_one


class DictStore(d.CheckpointStore):
    worker_id = ""

    def __init__(self, dicts=None):
        self.dicts, self.worker_id = dicts or Dicts(), f"worker {next(_numbers)}"
        self._is_closed, self._change_counter = False, 0

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def close(self):
        self._is_closed = True
        self.dicts.living.discard(self.worker_id)

    def _read(self, *ids):
        if self._is_closed:
            raise d.StoreError("the store is closed")
        for one in ids:
            check_identifier("workflow_execution_id", one)
        return self.dicts.tables

    def _row(self, one):
        return self._read(one).rows.get(one) or Row()

    @asynccontextmanager
    async def _write(self, *ids, news=False, lives=False, known=False):
        """A copy of the tables, to be changed."""
        now = self._read(*ids)
        if lives:
            self.dicts.living.add(self.worker_id)
        if known and ids[0] not in now.rows:
            raise d.ExecutionNotFoundError("no such execution", workflow_execution_id=ids[0])
        rows = {one: Row(**vars(row)) for one, row in now.rows.items()}
        copy = {"workflows": dict(now.workflows), "rows": rows, "numbers": Counter(now.numbers)}
        new = SimpleNamespace(**copy)
        yield new
        self.dicts.commit(new, self.worker_id)
        self._change_counter += news
        await asyncio.sleep(0)  # others have their turn, as with any store

    # Records

    async def save(self, *records, claim=None, start=(), send=()):
        one = claim and claim.workflow_execution_id
        for record in records:
            if not isinstance(record, msgspec.Struct):
                raise TypeError(f"{record!r} is no record")
            if claim and getattr(record, "workflow_execution_id", one) != one:
                raise ValueError(f"{claim} does not cover {record}")
        for signal in send:
            check_signal(signal)
        news = start or send or any(isinstance(record, d.WorkflowSignal) for record in records)
        async with self._write(news=bool(news)) as t:
            held = t.rows[one].claim if one in t.rows else None
            if claim and (held is None or held.token != claim.fencing_token):
                raise d.ClaimLostError(f"{claim} is lost", workflow_execution_id=one)
            self._save(t, records, claim)
            for new in start:
                if not self._start(t, new):
                    raise conflict(new.execution.workflow_execution_id, "is there already")
            for signal in send:
                row = t.rows.get(signal.workflow_execution_id)
                if row and not row.is_final():
                    self._arrive(t, row, signal)

    def _save(self, t, records, claim=None):
        for record in map(as_stored, records):
            match record:
                case d.Workflow():
                    t.workflows[record.workflow_id] = record
                    continue
                case d.WorkflowExecution() if record.workflow_id in t.workflows and not claim:
                    t.rows.setdefault(record.workflow_execution_id, Row(record))
            if record.workflow_execution_id not in t.rows:
                raise d.StoreError(f"{record} belongs to nothing known")
            row = t.rows[record.workflow_execution_id]
            match record:
                case d.WorkflowExecution() if claim:
                    row.set(**{name: getattr(record, name) for name in UNDER_A_CLAIM})
                case d.WorkflowExecution():
                    if row.is_final() and row.execution != record:
                        raise conflict(record.workflow_execution_id, "is finished")
                    row.execution = record
                case d.StepCheckpoint():
                    key = (record.branch, record.step_index, record.attempt)
                    number = row.steps[key].id if key in row.steps else next(_numbers)
                    row.steps[key] = change(record, id=number)
                case d.WorkflowTimer():
                    row.timers[record.workflow_timer_id] = record
                case d.AuditEntry():
                    row.log[next(_numbers)] = record
                case d.WorkflowSignal(workflow_signal_id=None):
                    self._arrive(t, row, record)
                case d.WorkflowSignal():
                    row.signals[record.workflow_signal_id] = record
        for record in records:
            if isinstance(record, d.WorkflowExecution) and record.status in FINAL:
                t.rows[record.workflow_execution_id].let_rest()

    def _arrive(self, t, row, signal):
        t.numbers["signal"] += 1
        signal = change(as_stored(signal), workflow_signal_id=t.numbers["signal"])
        row.signals[signal.workflow_signal_id] = signal
        at, before = min(signal.created_at, d.SystemClock().now()), row.execution.available_at
        keeps_delay = row.execution.status == "PENDING" and before
        wakes = row.is_for_it(signal) and (not keeps_delay or signal.signal_name == "$cancel")
        if signal.status == "PENDING" and wakes and row.is_free():
            row.set(available_at=min(at, before or at))
        return signal

    def _start(self, t, new):
        one = new.execution.workflow_execution_id
        if one in t.rows:
            return False
        t.workflows.setdefault(new.workflow.workflow_id, as_stored(new.workflow))
        t.rows[one] = Row(as_stored(new.execution), tags=new.tags)
        return True

    async def create_execution(self, workflow, execution, tags=None):
        new = d.NewExecution(workflow=workflow, execution=execution, tags=tags)
        async with self._write(lives=True) as t:
            is_new = self._start(t, new)
            one, at = execution.workflow_execution_id, execution.created_at
            return self._claim(t, one, at) if is_new else None

    async def enqueue_execution(self, workflow, execution, tags=None, *records):
        new = d.NewExecution(workflow=workflow, execution=execution, tags=tags)
        async with self._write(news=True) as t:
            if is_new := self._start(t, new):
                self._save(t, records)
            return is_new

    async def send_signal(self, signal, *records):
        check_signal(signal)
        one = signal.workflow_execution_id
        async with self._write(one, news=True, known=True) as t:
            if t.rows[one].is_final():
                raise conflict(one, "is finished")
            sent = self._arrive(t, t.rows[one], signal)
            self._save(t, records)
            return sent

    async def request_cancel(self, one, *records, now=None):
        async with self._write(one, news=True, known=True) as t:
            row = t.rows[one]
            if row.execution.status in (*FINAL, "COMPENSATING") or row.pending("$cancel"):
                return None
            ids = {"workflow_execution_id": one, "signal_name": "$cancel"}
            sent = self._arrive(t, row, d.WorkflowSignal(**ids, created_at=_at(now)))
            self._save(t, records)
            return sent

    async def load_workflow(self, workflow_id):
        return self._read(workflow_id).workflows.get(workflow_id)

    async def load_next_signals(self, one, signal_names):
        found = [self._row(one).pending(name)[:1] for name in set(signal_names)]
        return sorted(itertools.chain(*found), key=lambda signal: signal.workflow_signal_id)

    async def load_open_waits(self, one, signal_name):
        check_identifier("signal_name", signal_name)
        return self._row(one).waits(signal_name)

    load_execution = of_one(lambda row: row.execution)
    take_execution = of_one(Row.taken)
    load_checkpoints = of_one(Row.in_order)
    load_pending_signals = of_one(lambda row, *name: row.pending(*filter(None, name)))
    load_signals = of_one(lambda row: list(row.signals.values()))
    load_tags = of_one(lambda row: dict(row.tags))
    load_audit_log = of_one(lambda row: list(row.log.values()))

    # Queue

    def _claim(self, t, one, now):
        row = t.rows.get(one)
        if not row or row.claim or row.is_final() or row.execution.blocked_reason is not None:
            return None
        t.numbers["claim"] += 1
        row.claim = SimpleNamespace(
            worker=self.worker_id, token=t.numbers["claim"], at=now, is_stopping=False
        )
        return d.WorkflowClaim(
            workflow_execution_id=one,
            worker_id=self.worker_id,
            fencing_token=row.claim.token,
            status_before=row.execution.status,
        )

    def _take(self, t, one, now):
        if claim := self._claim(t, one, now):
            is_undone = claim.status_before == "COMPENSATING"
            status = claim.status_before if is_undone else d.ExecutionStatus.RUNNING
            started_at = t.rows[one].execution.started_at or now
            t.rows[one].set(status=status, started_at=started_at, updated_at=now)
            t.rows[one].set(trouble=None, available_at=None)
        return claim

    async def claim_execution(self, one, now=None):
        async with self._write(one, lives=True) as t:
            return self._take(t, one, _at(now))

    def _unfinished(self, t):
        rows = [row for row in t.rows.values() if not row.is_final()]
        return sorted(
            rows, key=lambda r: (r.execution.created_at, r.execution.workflow_execution_id)
        )

    def _is_of(self, t, row, workflows):
        of = t.workflows[row.execution.workflow_id]
        return (of.workflow_type, of.version) in workflows

    def _queued(self, t, workflows):
        free = [r for r in self._unfinished(t) if r.is_free() and self._is_of(t, r, workflows)]
        return [row.execution for row in free if row.execution.available_at]

    async def claim_available(
        self, workflows, limit, *, passed_over=(), suspect_at=None, takes_suspect=True, now=None
    ):
        check_integer("limit", limit, minimum=1)
        at, suspects, found = _at(now), takes_suspect, []
        async with self._write(lives=True) as t:
            due = [one for one in self._queued(t, workflows) if one.available_at <= at]
            for one in sorted(due, key=lambda one: (-one.priority, one.available_at)):
                is_suspect = one.recovery_count >= (suspect_at or MAX_INTEGER)
                if one.workflow_execution_id not in passed_over and suspects >= is_suspect:
                    found.append(one.workflow_execution_id)
                    suspects -= is_suspect
            workers = len(self.dicts.living)
            share = min(limit, -(-len(found[: limit * workers]) // workers))
            return [self._take(t, one, at) for one in found[:share]]

    async def load_next_available_at(self, workflows):
        queued = self._queued(self._read(), workflows)
        return min((one.available_at for one in queued), default=None)

    async def release_claims(self, claims, now=None, *, trouble=None):
        async with self._write() as t:
            for claim in claims:
                row = t.rows.get(claim.workflow_execution_id)
                if row and row.claim and row.claim.token == claim.fencing_token:
                    row.claim = None
                    if trouble is not None:
                        row.set(trouble=trouble, updated_at=_at(now))
                    row.put_into_queue(_at(now))

    async def release_created(self, execution, now=None):
        async with self._write() as t:
            row = t.rows.get(execution.workflow_execution_id)
            is_mine = row and row.claim and row.claim.worker == self.worker_id
            if is_mine and row.execution.created_at == execution.created_at:
                row.claim = None
                row.put_into_queue(_at(now))

    async def put_into_queue(self, ids, now=None):
        async with self._write() as t:
            for one in set(ids) & t.rows.keys():
                t.rows[one].put_into_queue(_at(now))

    async def load_unqueued_executions(self):
        return [
            d.UnqueuedExecution(
                workflow_execution_id=row.execution.workflow_execution_id,
                workflow_id=row.execution.workflow_id,
                guarantee=row.execution.guarantee,
                is_due=row.execution.status != "SUSPENDED" or bool(row.pending()),
                wakes_at=None if row.is_free() else row.wakes_at(),
            )
            for row in self._unfinished(self._read())
            if not (row.execution.blocked_reason or row.claim or row.execution.available_at)
            if not (row.is_free() and row.execution.status == "SUSPENDED")
        ]

    async def load_unregistered(self, workflows, limit):
        check_integer("limit", limit, minimum=1)
        t = self._read()
        others = [row for row in self._unfinished(t) if not self._is_of(t, row, workflows)]
        return [row.execution.workflow_execution_id for row in others[:limit]]

    async def load_blocked(self):
        rows = [row.execution for row in self._unfinished(self._read())]
        return [one.workflow_execution_id for one in rows if one.blocked_reason is not None]

    # Changes

    def change_counter(self):
        written = self.dicts.written
        return self._change_counter + written.total() - written[self.worker_id]

    async def load_last_signal_id(self):
        return self._read().numbers["signal"]

    async def load_signals_after(self, signal_id):
        rows = self._read().rows.values()
        signals = dict(itertools.chain(*(row.signals.items() for row in rows)))
        names = d.ArrivedSignal.__struct_fields__
        found = [signals[number] for number in sorted(signals) if number > signal_id]
        return [d.ArrivedSignal(**{name: getattr(one, name) for name in names}) for one in found]

    async def load_statuses(self, ids):
        rows = self._read().rows
        return {str(one): rows[one].execution.status for one in ids if one in rows}

    async def load_stopped(self, ids):
        found = [self._row(one).execution for one in ids]
        stopped = [one for one in found if one and (one.blocked_reason or one.trouble)]
        return {one.workflow_execution_id for one in stopped}

    # Membership

    async def join(self, workflows, max_concurrent, now=None):
        check_integer("max_concurrent", max_concurrent, minimum=1)
        for workflow_type, version in workflows:
            check_identifier("a workflow's type", workflow_type)
            check_integer("a workflow's version", version, minimum=1)
        self._read()
        self.dicts.living.add(self.worker_id)
        self.dicts.served.setdefault(self.worker_id, set()).update(workflows)

    async def load_served(self):
        self._read()
        return set().union(*map(self.dicts.served.get, self.dicts.living & set(self.dicts.served)))

    async def mark_as_stopping(self, claims):
        async with self._write() as t:
            for claim in claims:
                held = vars(t.rows[claim.workflow_execution_id].claim)
                marked = SimpleNamespace(**{**held, "is_stopping": True})
                t.rows[claim.workflow_execution_id].claim = marked

    async def release_claims_of_the_dead(self, max_recoveries, now=None, *, suspect_at=None):
        found = []
        async with self._write() as t:
            held = [row for row in self._unfinished(t) if row.claim]
            for worker in {row.claim.worker for row in held} - self.dicts.living:
                lost = [row for row in held if row.claim.worker == worker]
                blamed = [row for row in lost if row.may_have_killed()]
                at = suspect_at or MAX_INTEGER
                blamed = [row for row in blamed if row.execution.recovery_count >= at] or blamed
                for row in lost:
                    reason, deaths = None, row.execution.recovery_count + 1
                    if row in blamed:
                        if deaths > max_recoveries:
                            reason = f"its worker died {deaths} times in a row"
                        row.set(recovery_count=deaths, blocked_reason=reason)
                    row.claim = None
                    row.put_into_queue(_at(now))
                    one = row.execution.workflow_execution_id
                    abandoned = d.AbandonedExecution(
                        workflow_execution_id=one, blocked_reason=reason
                    )
                    found.append(abandoned)
        return found

    # Mending

    async def unblock_execution(self, one, *records, now=None):
        async with self._write(one) as t:
            row = t.rows.get(one)
            if row is None or row.is_final() or row.execution.blocked_reason is None:
                return False
            row.set(blocked_reason=None, recovery_count=0)
            self._save(t, records)
            row.put_into_queue(_at(now))
            return True

    async def hasten_attempts(self, one, *records, only=None, now=None):
        async with self._write(one) as t:
            row, at = t.rows.get(one, Row()), _at(now)
            may_be = row.execution and row.execution.status in (
                "PENDING",
                "RUNNING",
                "COMPENSATING",
            )
            last = {
                (step.branch, step.step_index, step.attempt > 0): key
                for key, step in sorted(row.steps.items())
                if may_be and step.kind == "STEP"
            }
            due = [
                key
                for key in last.values()
                if (row.steps[key].id == only.id if only else (row.steps[key].due_at or at) > at)
                and row.steps[key].due_at
                and row.steps[key].status == ("FAILED" if row.steps[key].attempt else "INTENT")
            ]
            for key in due:
                row.steps[key] = change(row.steps[key], due_at=min(at, row.steps[key].due_at))
            self._save(t, records if due else ())
            if due:
                row.put_into_queue(at)
            return len(due)

    async def reopen_execution(self, one, *records, now=None):
        async with self._write(one, known=True) as t:
            row = t.rows[one]
            status, undone = row.execution.status, [s for s in row.steps.values() if not s.attempt]
            row.set(ttl_expires_at=None, recovery_count=0, updated_at=_at(now))
            if status == "FAILED" and not undone:
                row.set(status=d.ExecutionStatus.PENDING, last_event=None)
                row.set(error_type=None, error_message=None)
                row.expect_signals()
            elif status in FINAL[1:] and any(step.status == "FAILED" for step in undone):
                row.set(status=d.ExecutionStatus.COMPENSATING)
            else:
                raise conflict(one, f"is {status}")
            self._save(t, records)
            row.put_into_queue(_at(now))

    async def mend_execution(self, seen, becomes, *records, forget=(), now=None):
        one = seen.execution.workflow_execution_id
        if becomes.workflow_execution_id != one:
            raise ValueError(f"{becomes.workflow_execution_id!r} is not {one!r}")
        async with self._write(one, news=True) as t:
            row = t.rows[one]
            if row.claim and row.claim.worker in self.dicts.living:
                raise conflict(one, f"is in the hands of {row.claim.worker}")
            if row.taken() != seen:
                return False
            row.claim = None
            row.set(**{name: getattr(becomes, name) for name in MENDED}, **RESET, output_data=None)
            gone = {step.id for step in forget}
            row.steps = {key: step for key, step in row.steps.items() if step.id not in gone}
            self._save(t, records)
            if row.is_final():
                row.let_rest()
            elif seen.execution.status in FINAL:
                row.expect_signals()
            row.put_into_queue(_at(now))
            return True

    async def acknowledge(self, one, *records, now=None):
        async with self._write(one) as t:
            row, changed = t.rows.get(one, Row()), set()
            for key, step in row.steps.items() if row.execution and row.is_final() else ():
                is_cut_off = step.error_type == CUT_OFF and step.event is None
                if step.status == "FAILED" and step.attempt == 0:
                    row.steps[key] = change(step, status=d.StepStatus.COMPENSATED)
                    changed.add(step.id)
                elif is_cut_off and step.kind == "STEP" and step.started_at:
                    changed |= {step.id} - row.acknowledged
            row.acknowledged |= changed
            self._save(t, records if changed else ())
            return len(changed)

    async def load_workflows(self):
        found = self._read().workflows.values()
        return sorted(found, key=lambda one: (one.workflow_type, one.version))


def _at(now):
    return now or d.SystemClock().now()
