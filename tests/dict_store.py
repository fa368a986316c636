"""A store of dicts, in memory, with nothing of SQLite: that the engine needs the roles and no more.

What each method means, its protocol says. A write changes a copy of the tables, which takes their
place when it has succeeded. A worker lives until it is closed.
"""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from time import monotonic

import msgspec

import durable_workflow_sqlite as d
from durable_workflow_sqlite import limits, questions
from durable_workflow_sqlite import records as r

BACKGROUND = d.WorkflowGuarantee.BEST_EFFORT_BACKGROUND
STATUS, PENDING, EXPIRED = d.ExecutionStatus, d.SignalStatus.PENDING, d.SignalStatus.EXPIRED
PROGRESS = ("status", "current_step", "error_type", "error_message", "last_event", "updated_at")
UNDER_A_CLAIM = (*PROGRESS, "output_data", "recovery_count", "blocked_reason")
NOT_PAUSED = {"paused_at": None, "paused_by": None, "paused_reason": None}
JSON = ("input_data", "output_data", "payload", "details")

change = msgspec.structs.replace
numbers = itertools.count(1)


class Claim(d.WorkflowClaim, frozen=True, kw_only=True):
    """As it is stored."""

    since: datetime
    is_stopping: bool = False
    slot: tuple | None = None


class Tables(msgspec.Struct):
    """A dict for each table. What is in them never changes: to copy the dicts is to copy all."""

    workflows: dict = {}
    executions: dict = {}
    tags: dict = {}
    steps: dict = {}
    patches: dict = {}
    streams: dict = {}
    progress: dict = {}
    timers: dict = {}
    signals: dict = {}
    audit_log: dict = {}
    changes: dict = {}
    claims: dict = {}
    acknowledged: dict = {}
    limits: dict = {}
    slots: dict = {}
    uses: dict = {}
    schedules: dict = {}
    of_schedule: dict = {}
    pauses: dict = {}
    spreading: dict = {}
    own: dict = {}

    def copy(self):
        return Tables(*(table.copy() for table in msgspec.structs.astuple(self)))

    # What there is of one execution

    def get(self, one):
        r.check_identifier("workflow_execution_id", one)
        return self.executions.get(one)

    def find(self, one):
        if not self.get(one):
            raise d.ExecutionNotFoundError("no such execution", workflow_execution_id=one)
        return self.executions[one]

    def steps_of(self, one, **where):
        steps = select(self.steps, one, **where)
        return sorted(steps, key=lambda step: (step.branch, step.step_index, step.attempt))

    def is_in_doubt(self, step):
        """Whether a step that is over may have taken effect, and nothing came after it."""
        is_cut_off = step.error_type == r.CUT_OFF and step.event is None
        is_marked = '"idempotent":' in (step.input_data or "") or '"answer":' in (
            step.input_data or ""
        )
        is_unclear = step.error_type in (r.TIMED_OUT, r.AMBIGUOUS) and not is_marked
        has_timed_out = is_unclear and step.due_at is None
        place = {"branch": step.branch, "step_index": step.step_index}
        others = self.steps_of(step.workflow_execution_id, **place)
        is_undone = any(other.status == d.StepStatus.COMPENSATED for other in others)
        is_last = step.attempt == max(other.attempt for other in others)
        may_be = (is_cut_off or has_timed_out) and step.started_at is not None
        return may_be and is_last and not is_undone

    def last_attempts(self, one):
        """Of each step and of each compensation."""
        steps = self.steps_of(one, kind="STEP")
        return {(step.branch, step.step_index, step.attempt > 0): step for step in steps}.values()

    def has_paused(self, one):
        """Whether no step runs, and one is in a back-off."""
        last = [step for step in self.last_attempts(one) if step.attempt > 0]
        is_running = any(step.status == "INTENT" for step in last)
        return not is_running and any(step.status == "FAILED" and step.due_at for step in last)

    def waits_for(self, one, name):
        return self.steps_of(one, kind="SIGNAL", status="INTENT", step_name=name)

    def patches_of(self, one):
        return sorted(select(self.patches, one), key=lambda patch: (patch.branch, patch.patch_name))

    def timers_of(self, one):
        return sorted(select(self.timers, one, status="PENDING"), key=lambda timer: timer.fire_at)

    def is_to_cancel(self, one):
        return bool(select(self.signals, one, status=PENDING, signal_name=r.CANCEL_SIGNAL))

    def taken(self, one):
        execution = self.get(one)
        return execution and d.TakenExecution(
            execution=execution,
            checkpoints=self.steps_of(one),
            pending_timers=self.timers_of(one),
            is_to_cancel=self.is_to_cancel(one),
            patches=self.patches_of(one),
        )

    # The queue

    def unfinished(self):
        found = [one for one in self.executions.values() if not one.status.is_terminal]
        return sorted(found, key=lambda one: (one.created_at, one.workflow_execution_id))

    def is_of(self, execution, workflows):
        of = self.workflows[execution.workflow_id]
        return (of.workflow_type, of.version) in workflows

    def is_free(self, execution):
        is_free = execution.workflow_execution_id not in self.claims
        return is_free and execution.blocked_reason is None and not execution.status.is_terminal

    def is_held(self, execution):
        of = self.workflows[execution.workflow_id].workflow_type
        return any(pause.holds(of, execution.queue) for pause in self.pauses.values())

    def may_be_claimed(self, execution):
        is_paused = execution.is_paused or self.is_held(execution)
        return self.is_free(execution) and not is_paused

    def may_be_queued(self, execution):
        may_be = execution.guarantee == BACKGROUND and not execution.is_paused
        return may_be and self.is_free(execution)

    def queued(self, workflows, queues, worker):
        """What may be claimed at its time: also a slot is free for each of them."""
        found = [one for one in self.unfinished() if self.may_be_queued(one)]
        found = [one for one in found if queues is None or one.queue in queues]
        found = [one for one in found if self.has_slot(one.queue, one.queue_key, worker)]
        found = [one for one in found if one.available_at and self.is_of(one, workflows)]
        return [one for one in found if not self.is_held(one)]

    def has_slot(self, queue, key, worker):
        if queue is None:
            return True
        limits, none = self.limits[d.Queue, queue][0], float("inf")
        held = [one for one in self.claims.values() if one.slot and one.slot[0] == queue]
        return (
            len(held) < (limits.concurrency or none)
            and sum(one.worker_id == worker for one in held) < (limits.per_worker or none)
            and (key is None or [one.slot[1] for one in held].count(key) < (limits.per_key or none))
        )

    def may_begin(self, queue, key, now):
        """By the rates of a queue."""
        if queue is None:
            return True
        limits, uses = self.limits[d.Queue, queue][0], self.uses_of(d.Queue, queue)
        of_key = [one for one in uses if key and one[2] == key]
        is_allowed = self.allowed_at(limits.rate, uses, now) is None
        return is_allowed and self.allowed_at(limits.key_rate, of_key, now) is None

    def not_before_the_last(self, execution, now):
        """What begins by a rate is not stored with an earlier time than what began before it."""
        if not execution or execution.queue is None:
            return now
        limits = self.limits[d.Queue, execution.queue][0]
        rates = [rate.period for rate in (limits.rate, limits.key_rate) if rate]
        used = [at for *_, at in self.uses_of(d.Queue, execution.queue)]
        return max([now, *(at for at in used if rates and at <= now + max(rates))])

    def is_for_it(self, signal):
        one, name = signal.workflow_execution_id, signal.signal_name
        waits = self.executions[one].status == "SUSPENDED"
        is_own = name[0] == "$" and not name.startswith((r.CHILD_SIGNAL, r.ANSWER_SIGNAL))
        return not waits or is_own or bool(self.waits_for(one, name))

    def wakes_at(self, one, otherwise=None):
        waits = [step for step in self.steps_of(one, status="INTENT") if step.kind != "STEP"]
        times = [timer.fire_at for timer in self.timers_of(one)]
        if any(map(asks, self.steps_of(one, status="INTENT"))):
            otherwise = None
        times = times + [step.due_at for step in waits] or [otherwise]
        return min(filter(None, [*times, self.executions[one].ttl_expires_at]), default=None)

    def unqueued(self, execution):
        one, is_queued = execution.workflow_execution_id, self.may_be_queued(execution)
        signals = select(self.signals, one, status=PENDING)
        return d.UnqueuedExecution(
            workflow_execution_id=one,
            workflow_id=execution.workflow_id,
            guarantee=execution.guarantee,
            is_due=execution.status != "SUSPENDED" or bool(signals),
            wakes_at=None if is_queued else self.wakes_at(one),
        )

    def put_into_queue(self, one, now):
        if self.may_be_queued(self.executions[one]):
            signals = select(self.signals, one, status=PENDING)
            waits = self.executions[one].status == "SUSPENDED"
            is_due = not waits or any(map(self.is_for_it, signals))
            self.set(one, available_at=now if is_due else self.wakes_at(one, now))

    def may_have_killed(self, one):
        execution, claim, steps = self.executions[one], self.claims[one], self.last_attempts(one)
        if execution.status == "SUSPENDED" or claim.is_stopping:
            return False
        if any(step.status == "INTENT" and not waits_for_attempt(step) for step in steps):
            return True
        has_written = execution.updated_at > claim.since
        starts = [step.started_at for step in steps if waits_for_attempt(step)]
        return not any(has_written or (start and start >= claim.since) for start in starts)

    # Changes

    def set(self, one, **values):
        self.put(change(self.executions[one], **values))

    def put(self, execution):
        """Store an execution; if it ends by that, its parent and its children hear of it."""
        one = execution.workflow_execution_id
        before, self.executions[one] = self.executions.get(one), execution
        if before is not None and holder_of(before) != holder_of(execution):
            self.spreading[one] = None
        if before is None or (before.status.is_terminal and not execution.status.is_terminal):
            self.begins(execution)
        if before is None or before.status == execution.status:
            return
        if execution.status.is_terminal:
            output = msgspec.Raw((execution.output_data or "null").encode())
            end = {name: getattr(execution, name) for name in ("error_type", "error_message")}
            self.tell_parent(execution, {"status": execution.status, "output": output, **end})
        if execution.status.is_terminal or execution.status == "COMPENSATING":
            self.cancel_children(one, execution.updated_at)

    def begins(self, child):
        """What holds its parent holds it, too."""
        holder = holder_of(self.executions.get(child.parent_execution_id))
        if child.on_parent_end == "cancel" and (holder or child.paused_with):
            one = child.workflow_execution_id
            self.set(one, paused_with=holder, available_at=None)

    def tell_parent(self, child, end):
        parent = self.executions.get(child.parent_execution_id)
        if parent is not None:
            signal = d.WorkflowSignal(
                workflow_execution_id=parent.workflow_execution_id,
                signal_name=r.CHILD_SIGNAL + child.workflow_execution_id,
                payload=msgspec.json.encode(end).decode(),
                status=EXPIRED if parent.status.is_terminal else PENDING,
                created_at=child.updated_at,
            )
            self.receive(signal)

    def cancel_children(self, one, at):
        for child in list(self.executions.values()):
            is_its = child.parent_execution_id == one and child.on_parent_end == "cancel"
            name = child.workflow_execution_id
            may_be = child.status in ("PENDING", "RUNNING", "SUSPENDED")
            if is_its and may_be and not self.is_to_cancel(name):
                ids = {"workflow_execution_id": name, "signal_name": r.CANCEL_SIGNAL}
                self.receive(d.WorkflowSignal(**ids, created_at=at))

    def let_rest(self, one):
        self.set(one, **NOT_PAUSED, paused_with=None)
        self.claims.pop(one, None)
        for timer in self.timers_of(one):
            cancelled = change(timer, status=d.TimerStatus.CANCELLED)
            self.timers[timer.workflow_timer_id] = cancelled
        for signal in select(self.signals, one, status=PENDING):
            self.signals[signal.workflow_signal_id] = change(signal, status=EXPIRED)

    def expect_signals(self, one):
        for signal in select(self.signals, one, status=EXPIRED):
            if signal.signal_name[0] != "$" or signal.signal_name.startswith(r.CHILD_SIGNAL):
                self.signals[signal.workflow_signal_id] = change(signal, status=PENDING)

    def start(self, new):
        """False if the id is taken."""
        one = new.execution.workflow_execution_id
        if one in self.executions:
            return False
        if new.execution.queue and (d.Queue, new.execution.queue) not in self.limits:
            raise d.QueueNotFoundError(f"no queue {new.execution.queue!r}")
        if other := self.duplicate(new.execution):
            raise d.DuplicateExecutionError("it is there already", workflow_execution_id=other)
        self.workflows.setdefault(new.workflow.workflow_id, as_stored(new.workflow))
        self.put(as_stored(new.execution))
        self.tags[one] = new.tags
        return True

    def keyed(self, one, key):
        """The signal with a key; None if there is none."""
        return next(iter(select(self.signals, one, signal_key=key)), None) if key else None

    def duplicate(self, new):
        for one in self.unfinished():
            has_begun = one.debounced and one.started_at
            is_same = (one.queue, one.dedup_id) == (new.queue, new.dedup_id)
            if new.dedup_id and is_same and not has_begun:
                return one.workflow_execution_id
        return None

    def has_step_slot(self, limit, key, now):
        if (d.Limit, limit) not in self.limits:
            raise d.LimitNotFoundError(f"no limit {limit!r}")
        limits, none = self.limits[d.Limit, limit][0], float("inf")
        tokens = {claim.fencing_token for claim in self.claims.values()}
        held = [one for place, one in self.slots.items() if place[0] in tokens]
        held = [one for one in held if one.limit == limit]
        is_free = len(held) < (limits.concurrency or none)
        of_key = [one.key for one in held].count(key)
        is_free = is_free and (key is None or of_key < (limits.per_key or none))
        allowed_at = self.allowed_at(limits.rate, self.uses_of(d.Limit, limit), now)
        return d.LimitRoom(is_free=is_free and allowed_at is None, again_at=allowed_at)

    def uses_of(self, kind, name, key=None):
        uses = [one for one in self.uses.values() if one[:2] == (kind, name)]
        return [one for one in uses if key is None or one[2] == key]

    def allowed_at(self, rate, uses, now):
        """None: now."""
        if rate is None:
            return None
        used = sorted(at for *_, at in uses if now - rate.period < at <= now + rate.period)
        return used[-rate.number] + rate.period if len(used) >= rate.number else None

    def receive(self, signal):
        if self.keyed(signal.workflow_execution_id, signal.signal_key):
            raise d.StoreError(f"there is a signal with the key {signal.signal_key!r} already")
        signal = change(as_stored(signal), workflow_signal_id=max(self.signals, default=0) + 1)
        self.signals[signal.workflow_signal_id] = signal
        one, at = self.executions[signal.workflow_execution_id], min(signal.created_at, r.utc_now())
        is_delayed = one.status == "PENDING" and one.available_at
        wakes = self.is_for_it(signal) and (not is_delayed or signal.signal_name == r.CANCEL_SIGNAL)
        if wakes and signal.status == PENDING and self.may_be_queued(one):
            self.set(one.workflow_execution_id, available_at=min(at, one.available_at or at))
        return signal

    def save(self, records, claim=None):
        for record in map(as_stored, records):
            one = getattr(record, "workflow_execution_id", None)
            match record:
                case d.Workflow():
                    self.workflows[record.workflow_id] = record
                case d.WorkflowExecution() if claim:
                    if record.status == "SUSPENDED":
                        self.claims[one] = change(self.claims[one], slot=None)
                    self.set(one, **{name: getattr(record, name) for name in UNDER_A_CLAIM})
                case d.WorkflowExecution() if record.workflow_id in self.workflows:
                    before = self.executions.get(one, record)
                    if before.status.is_terminal and before != record:
                        raise finished(before)
                    self.put(record)
                case d.ChangeEntry():
                    self.changes[next(numbers)] = record
                case _ if one not in self.executions:
                    raise d.StoreError(f"{record} belongs to nothing known")
                case d.StepCheckpoint():
                    key = (one, record.branch, record.step_index, record.attempt)
                    number = self.steps[key].id if key in self.steps else next(numbers)
                    self.steps[key] = change(record, id=number)
                case d.StepSlot():
                    place = (claim.fencing_token, record.branch, record.step_index)
                    self.slots.pop(place, None)
                    if record.is_held:
                        if not self.has_step_slot(record.limit, record.key, record.at).is_free:
                            raise d.LimitFullError("full")
                        self.slots[place] = record
                        self.uses[next(numbers)] = (d.Limit, record.limit, record.key, record.at)
                case d.WorkflowPatch():
                    self.patches.setdefault((one, record.branch, record.patch_name), record)
                case r.StreamItems():
                    place = record.branch, record.step_index, record.step_name, record.attempt
                    under = record.run_number, record.written_under
                    for item in record.items:
                        number = next(numbers)
                        row = (number, one, *place, *under, item, record.created_at)
                        self.streams[number] = r.StreamItem(*row)
                case r.Progress():
                    self.progress[one, record.branch, record.step_index] = record
                case d.WorkflowTimer():
                    self.timers[record.workflow_timer_id] = record
                case d.AuditEntry():
                    self.audit_log[next(numbers)] = record
                case d.WorkflowSignal(workflow_signal_id=None):
                    self.receive(record)
                case d.WorkflowSignal():
                    self.signals[record.workflow_signal_id] = record
        for one in r.check_records(records, claim):
            self.let_rest(one)


def select(table, one, **where):
    """The records of an execution that have these values."""
    r.check_identifier("workflow_execution_id", one)
    found = [record for record in table.values() if record.workflow_execution_id == one]
    return [x for x in found if all(getattr(x, name) == value for name, value in where.items())]


def is_open_question(step):
    return step.status == "INTENT" and questions.is_question(step.step_name)


def as_stored(record):
    """With its times in UTC. Raises SerializationError for data that is not JSON."""
    values = msgspec.structs.asdict(record)
    for name in JSON:
        text = values.get(name)
        try:
            msgspec.json.decode("null" if text is None else text)
        except msgspec.DecodeError as error:
            raise d.SerializationError(f"{name} is not valid json: {error}") from None
    times = {name: t.astimezone(UTC) for name, t in values.items() if isinstance(t, datetime)}
    return change(record, **times)


def holder_of(execution):
    """Whose pause holds the children of an execution."""
    if execution is None or execution.status.is_terminal:
        return None
    one = execution.workflow_execution_id
    return execution.paused_with if execution.paused_at is None else one


def waits_for_attempt(step):
    return step.due_at and (step.status == "INTENT" or (step.status == "FAILED" and step.attempt))


def asks(step):
    is_open = step.status == "INTENT" and not step.due_at and step.kind == "STEP"
    return is_open and step.error_type == r.AMBIGUOUS


def conflict(one, why):
    return d.ExecutionConflictError(f"execution {one!r} {why}", workflow_execution_id=one)


def finished(execution):
    one, status = execution.workflow_execution_id, execution.status
    why = f"execution {one!r} is finished"
    return d.ExecutionFinishedError(why, workflow_execution_id=one, status=status)


def reads(method):
    """A method that is given the tables."""

    async def read(self, *args, **more):
        return method(self, self.tables(), *args, **more)

    return read


def writes(method):
    """A method that is given a copy of the tables, to change it."""

    async def write(self, *args, **more):
        tables = self.tables().copy()
        result = method(self, tables, *args, **more)
        self.dicts.commit(tables)
        self.own_commits += 1
        await asyncio.sleep(0)  # others have their turn, as with any store
        return result

    return write


NAMES = Tables.__struct_fields__


class Dicts:
    """What outlives the stores: all that was committed, and which workers live."""

    def __init__(self):
        self.tables, self.commits = Tables(), 0
        self.living, self.served = set(), {}
        self.pauses = 0

    def commit(self, tables):
        self.tables = tables
        self.commits += 1


class DictStore(d.CheckpointStore):
    worker_id = ""

    def __init__(self, dicts=None):
        self.dicts, self.worker_id = dicts or Dicts(), f"worker {next(numbers)}"
        self.is_closed, self.own_commits, self.claimed = False, 0, 0
        self.schedules_saved = 0

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def close(self):
        self.is_closed = True
        self.dicts.living.discard(self.worker_id)

    def tables(self):
        if self.is_closed:
            raise d.StoreError("the store is closed")
        return self.dicts.tables

    # Records

    @writes
    def create_execution(self, t, workflow, execution, tags=None, *records):
        new = d.NewExecution(workflow=workflow, execution=execution, tags=tags)
        if execution.queue:
            raise ValueError("it is in a queue")
        is_new = t.start(new)
        one, at = execution.workflow_execution_id, execution.created_at
        claim = self.claim(t, one, at) if is_new else None
        if is_new and not claim:
            t.set(one, status=STATUS.PENDING, started_at=None)
            t.put_into_queue(one, at)
        t.save(records if is_new else ())
        return claim

    @writes
    def enqueue_execution(self, t, workflow, execution, tags=None, *records):
        new = d.NewExecution(workflow=workflow, execution=execution, tags=tags)
        is_new = t.start(new)
        t.save(records if is_new else ())
        return is_new

    @writes
    def save(self, t, *records, claim=None, start=(), send=()):
        for signal in send:
            r.check_sent(signal)
        r.check_records(records, claim)
        if claim and not holds(t, claim):
            one = claim.workflow_execution_id
            raise d.ClaimLostError(f"{claim} is lost", workflow_execution_id=one)
        t.save(records, claim)
        for new in start:
            if not t.start(new):
                raise conflict(new.execution.workflow_execution_id, "is there already")
        for signal in send:
            to = t.executions.get(signal.workflow_execution_id)
            is_there = t.keyed(signal.workflow_execution_id, signal.signal_key)
            if to and not to.status.is_terminal and not is_there:
                t.receive(signal)

    @writes
    def transact(self, t, function, failed, *, claim, timeout, unless_signal=None, passed_over=()):
        one, began = claim.workflow_execution_id, monotonic()
        if not holds(t, claim):
            raise d.ClaimLostError(f"{claim} is lost", workflow_execution_id=one)
        if unless_signal:
            sent = select(t.signals, one, status=PENDING, signal_name=unless_signal)
            if any(signal.workflow_signal_id not in passed_over for signal in sent):
                return False
        before, tried = Tables(**{name: getattr(t, name) for name in NAMES}), t.copy()
        try:
            records = function(tried.own)
            if monotonic() - began >= timeout.total_seconds():
                raise d.TransactionTimeoutError("it took too long")
            r.check_records(records, claim)
            tried.save(records, claim)
        except d.ClaimLostError:
            raise
        except Exception as error:
            records, tried = failed(error), before.copy()
            r.check_records(records, claim)
            tried.save(records, claim)
        for name in NAMES:
            setattr(t, name, getattr(tried, name))
        return True

    @writes
    def continue_as_new(self, t, execution, *records, claim):
        one = execution.workflow_execution_id
        r.check_covered(claim, one)
        r.check_records(records, claim)
        if not holds(t, claim):
            raise d.ClaimLostError(f"{claim} is lost", workflow_execution_id=one)
        t.save(records, claim)
        for table in ("steps", "timers", "patches", "streams", "progress"):
            kept = getattr(t, table).items()
            left = {key: x for key, x in kept if x.workflow_execution_id != one}
            setattr(t, table, left)
        input_data, run, at = execution.input_data, execution.run_number, execution.updated_at
        t.set(one, input_data=input_data, run_number=run, updated_at=at, started_at=at)
        t.set(one, status=STATUS.RUNNING, current_step=0, recovery_count=0, blocked_reason=None)
        t.set(one, error_type=None, error_message=None, last_event=None, replay_origin=None)
        for signal in select(t.signals, one, status=PENDING):
            if signal.signal_name.startswith(r.CHILD_SIGNAL):
                t.signals[signal.workflow_signal_id] = change(signal, status=EXPIRED)
        t.cancel_children(one, at)

    @writes
    def send_signal(self, t, signal, *records):
        r.check_sent(signal)
        if t.keyed(signal.workflow_execution_id, signal.signal_key):
            return None
        if (to := t.find(signal.workflow_execution_id)).status.is_terminal:
            raise finished(to)
        sent = t.receive(signal)
        t.save(records)
        return sent

    @writes
    def answer_question(self, t, signal, *records):
        r.check_answer(signal)
        one, name, at = signal.workflow_execution_id, signal.signal_name, signal.created_at
        execution = t.executions.get(one)
        if not execution or execution.status not in ("PENDING", "RUNNING", "SUSPENDED"):
            return None
        waits = [x for x in t.steps_of(one) if x.step_name == name and is_open_question(x)]
        if not any(x.due_at is None or x.due_at > at for x in waits):
            return None
        if select(t.signals, one, status=PENDING, signal_name=name):
            return None
        sent = t.receive(signal)
        t.save(records)
        return sent

    @reads
    def load_questions(self, t, to=None, workflow_execution_id=None, *, limit=100):
        for what, value in ("to", to), ("workflow_execution_id", workflow_execution_id):
            if value is not None:
                r.check_identifier(what, value)
        r.check_integer("limit", limit, minimum=1)
        asking = [x for x in t.steps.values() if is_open_question(x)]
        found = []
        for wait in sorted(asking, key=lambda x: (x.started_at, x.id)):
            execution = t.executions[wait.workflow_execution_id]
            record = questions.read_record(wait.input_data)
            asked = questions.read_asked(record)
            if execution.status not in ("PENDING", "RUNNING", "SUSPENDED"):
                continue
            if to not in (None, record.to):
                continue
            if workflow_execution_id not in (None, wait.workflow_execution_id):
                continue
            given = select(
                t.signals, wait.workflow_execution_id, status=PENDING, signal_name=wait.step_name
            )
            found.append(
                questions.Question(
                    workflow_execution_id=wait.workflow_execution_id,
                    workflow_type=t.workflows[execution.workflow_id].workflow_type,
                    name=record.name,
                    signal_name=wait.step_name,
                    to=record.to,
                    question=asked.question,
                    details=asked.plain_details,
                    type=record.type,
                    schema=asked.schema,
                    branch=wait.branch,
                    step_index=wait.step_index,
                    asked_at=wait.started_at,
                    deadline=wait.due_at,
                    is_answered=bool(given),
                )
            )
        return found[:limit]

    @writes
    def request_cancel(self, t, one, *records, now=None):
        status, at = t.find(one).status, now or r.utc_now()
        if status.is_terminal:
            raise finished(t.find(one))
        if status == "COMPENSATING" or t.is_to_cancel(one):
            return None
        ids = {"workflow_execution_id": one, "signal_name": r.CANCEL_SIGNAL}
        sent = t.receive(d.WorkflowSignal(**ids, created_at=at))
        t.save(records)
        if t.executions[one].paused_at:
            t.set(one, **NOT_PAUSED)
            t.put_into_queue(one, at)
        return sent

    take_execution = reads(lambda _, t, one: t.taken(one))
    load_execution = reads(lambda _, t, one: t.get(one))
    load_checkpoints = reads(lambda _, t, one: t.steps_of(one))

    @reads
    def load_workflow(self, t, workflow_id):
        r.check_identifier("workflow_id", workflow_id)
        return t.workflows.get(workflow_id)

    # Queue

    def claim(self, t, one, now):
        self.dicts.living.add(self.worker_id)
        execution = t.get(one)
        slot = execution and execution.queue and (execution.queue, execution.queue_key)
        if not execution or not t.may_be_claimed(execution):
            return None
        if slot and not (t.has_slot(*slot, self.worker_id) and t.may_begin(*slot, now)):
            return None
        goes_on = execution.status in ("SUSPENDED", "COMPENSATING") or t.has_paused(one)
        if slot and not goes_on:
            t.uses[next(numbers)] = (d.Queue, *slot, now)
        t.claims[one] = Claim(
            workflow_execution_id=one,
            worker_id=self.worker_id,
            fencing_token=next(numbers),
            status_before=execution.status,
            since=now,
            slot=slot or None,
        )
        return t.claims[one]

    def take(self, t, one, now):
        now = t.not_before_the_last(t.get(one), now)
        if claim := self.claim(t, one, now):
            before = t.executions[one]
            status = before.status if before.status == "COMPENSATING" else STATUS.RUNNING
            started_at = before.started_at or now
            t.set(one, status=status, started_at=started_at, updated_at=now)
            t.set(one, trouble=None, available_at=None)
        return claim

    @writes
    def claim_execution(self, t, one, now=None):
        return self.take(t, one, now or r.utc_now())

    @writes
    def claim_available(
        self,
        t,
        workflows,
        limit,
        *,
        queues=None,
        passed_over=(),
        suspect_at=None,
        takes_suspect=True,
        now=None,
    ):
        r.check_integer("limit", limit, minimum=1)
        at, suspects, found = now or r.utc_now(), takes_suspect, []
        due = t.queued(workflows, queues, self.worker_id)
        due = [one for one in due if one.available_at <= at]
        due = [one for one in due if t.may_begin(one.queue, one.queue_key, at)]
        long = min(due, key=lambda one: one.available_at, default=None)
        if self.claimed < 10 or long is None or at - long.available_at <= timedelta(minutes=1):
            long = None
        for one in sorted(due, key=lambda one: (one is not long, -one.priority, one.available_at)):
            is_suspect = one.recovery_count >= (suspect_at or r.MAX_INTEGER)
            if one.workflow_execution_id not in passed_over and suspects >= is_suspect:
                found.append(one.workflow_execution_id)
                suspects -= is_suspect
        workers = len(self.dicts.living | {self.worker_id})
        share = min(limit, -(-len(found[: limit * workers]) // workers))
        claims = list(filter(None, [self.take(t, one, at) for one in found[:share]]))
        self.claimed = len(claims) + (0 if long else self.claimed)
        return claims

    @reads
    def load_next_available_at(self, t, workflows, queues=None, now=None):
        now, times = now or r.utc_now(), []
        for one in t.queued(workflows, queues, self.worker_id):
            rate = one.queue and t.limits[d.Queue, one.queue][0].rate
            allowed_at = t.allowed_at(rate, t.uses_of(d.Queue, one.queue), now)
            times.append(max(one.available_at, allowed_at or one.available_at))
        return min(times, default=None)

    @writes
    def leave_slot(self, t, claim):
        if holds(t, claim):
            one = claim.workflow_execution_id
            t.claims[one] = change(t.claims[one], slot=None)

    @writes
    def take_slot(self, t, claim, queue, key):
        one = claim.workflow_execution_id
        if not holds(t, claim):
            return False
        t.claims[one] = change(t.claims[one], slot=None)
        if not t.has_slot(queue, key, self.worker_id):
            return False
        t.claims[one] = change(t.claims[one], slot=(queue, key))
        return True

    # Limits

    @writes
    def declare_limits(self, t, definitions, now=None):
        for one in limits.checked(definitions):
            name = (type(one), one.name)
            if t.limits.get(name, (None, None))[1] != one:
                t.limits[name] = (one, one)

    @writes
    def save_limit(self, t, definition, *records, now=None):
        t.save(records)
        (one,) = limits.checked([definition])
        name = (type(one), one.name)
        t.limits[name] = (one, t.limits.get(name, (None, None))[1])

    @reads
    def load_limits(self, t):
        names = sorted(t.limits, key=lambda name: (name[0] is d.Limit, name[1]))
        return [t.limits[name][0] for name in names]

    @reads
    def load_limit_room(self, t, limit, key, now=None):
        return t.has_step_slot(limit, key, now or r.utc_now())

    @writes
    def debounce_execution(self, t, workflow, execution, tags=None, *records):
        new = d.NewExecution(workflow=workflow, execution=execution, tags=tags)
        if not execution.debounced:
            raise ValueError("it is not debounced")
        if other := t.duplicate(execution):
            found = t.executions[other]
            is_same = found.debounced and found.workflow_id == execution.workflow_id
            if not is_same or other in t.claims:
                raise d.DuplicateExecutionError("it is another", workflow_execution_id=other)
            at = found.available_at and execution.available_at
            t.set(other, input_data=execution.input_data, available_at=at)
            return other
        if not t.start(new):
            raise conflict(execution.workflow_execution_id, "is there already")
        t.save(records)
        return execution.workflow_execution_id

    @writes
    def release_claims(self, t, claims, now=None, *, trouble=None):
        at = now or r.utc_now()
        for claim in claims:
            if holds(t, claim):
                one = t.claims.pop(claim.workflow_execution_id).workflow_execution_id
                if trouble is not None:
                    t.set(one, trouble=trouble, updated_at=at)
                t.put_into_queue(one, at)

    @writes
    def release_created(self, t, execution, now=None):
        one = execution.workflow_execution_id
        is_mine = one in t.claims and t.claims[one].worker_id == self.worker_id
        if is_mine and t.executions[one].created_at == execution.created_at:
            del t.claims[one]
            t.put_into_queue(one, now or r.utc_now())

    @writes
    def put_into_queue(self, t, ids, now=None):
        for one in t.executions.keys() & set(ids):
            t.put_into_queue(one, now or r.utc_now())

    @reads
    def load_unqueued_executions(self, t):
        free = [one for one in t.unfinished() if t.is_free(one) and not one.available_at]
        free = [one for one in free if t.may_be_queued(one) or one.guarantee != BACKGROUND]
        waits = [one for one in free if t.may_be_queued(one) and one.status == "SUSPENDED"]
        return [t.unqueued(one) for one in free if one not in waits]

    @reads
    def load_unregistered(self, t, workflows, limit):
        r.check_integer("limit", limit, minimum=1)
        others = [one for one in t.unfinished() if not t.is_of(one, workflows)]
        return [one.workflow_execution_id for one in others[:limit]]

    @reads
    def load_stream_items(self, t, one, after=0, limit=500):
        r.check_identifier("workflow_execution_id", one)
        r.check_integer("after", after)
        r.check_integer("limit", limit, minimum=1)
        items = [item for item in select(t.streams, one) if item.workflow_stream_item_id > after]
        return items[:limit]

    @reads
    def load_progress(self, t, one):
        r.check_identifier("workflow_execution_id", one)
        newest = {(step.branch, step.step_index): 0 for step in select(t.steps, one)}
        for step in select(t.steps, one):
            place = step.branch, step.step_index
            newest[place] = max(newest[place], step.attempt)
        found = [
            report
            for report in select(t.progress, one)
            if newest.get((report.branch, report.step_index), 0) <= report.attempt
        ]
        return sorted(found, key=lambda report: (report.branch, report.step_index))

    @reads
    def load_blocked(self, t):
        found = [one for one in t.unfinished() if one.blocked_reason is not None]
        return [one.workflow_execution_id for one in found]

    # Changes

    def change_counter(self):
        t = self.dicts.tables
        own = len(t.signals) + len(t.executions) + self.dicts.pauses + self.schedules_saved
        return self.dicts.commits - self.own_commits + own

    @reads
    def load_signals_after(self, t, signal_id):
        found = [t.signals[number] for number in sorted(t.signals) if number > signal_id]
        return [msgspec.convert(one, d.ArrivedSignal, from_attributes=True) for one in found]

    # Membership

    @reads
    def join(self, _, workflows, max_concurrent, now=None, *, queues=None):
        r.check_integer("max_concurrent", max_concurrent, minimum=1)
        for workflow_type, version in workflows:
            r.check_identifier("a workflow's type", workflow_type)
            r.check_integer("a workflow's version", version, minimum=1)
        for queue in queues or ():
            r.check_identifier("the name of a queue", queue)
        self.dicts.living.add(self.worker_id)
        self.dicts.served.setdefault(self.worker_id, set()).update(workflows)

    @reads
    def load_served(self, _):
        return set().union(*(self.dicts.served.get(one, ()) for one in self.dicts.living))

    @writes
    def mark_as_stopping(self, t, claims):
        for claim in claims:
            if holds(t, claim):
                one = claim.workflow_execution_id
                t.claims[one] = change(t.claims[one], is_stopping=True)

    @writes
    def release_claims_of_the_dead(self, t, max_recoveries, now=None, *, suspect_at=None):
        abandoned = []
        for worker_id in {claim.worker_id for claim in t.claims.values()} - self.dicts.living:
            lost = [one for one, claim in t.claims.items() if claim.worker_id == worker_id]
            deaths = {one: t.executions[one].recovery_count + 1 for one in lost}
            blamed = [one for one in lost if t.may_have_killed(one)]
            suspects = [one for one in blamed if deaths[one] > (suspect_at or r.MAX_INTEGER)]
            for one in suspects or blamed:
                why = f"its worker died {deaths[one]} times in a row"
                reason = why if deaths[one] > max_recoveries else None
                t.set(one, recovery_count=deaths[one], blocked_reason=reason)
            for one in lost:
                del t.claims[one]
                t.put_into_queue(one, now or r.utc_now())
                reason = t.executions[one].blocked_reason
                gone = d.AbandonedExecution(workflow_execution_id=one, blocked_reason=reason)
                abandoned.append(gone)
        return abandoned

    # Mending

    @writes
    def unblock_execution(self, t, one, *records, now=None):
        execution = t.get(one)
        if not execution or execution.status.is_terminal or execution.blocked_reason is None:
            return False
        t.set(one, blocked_reason=None, recovery_count=0)
        t.save(records)
        t.put_into_queue(one, now or r.utc_now())
        return True

    @writes
    def hasten_attempts(self, t, one, *records, only=None, now=None):
        at, execution = now or r.utc_now(), t.get(one)
        if not execution or execution.status.is_terminal:
            return 0
        last = t.last_attempts(one)
        due = [step for step in last if waits_for_attempt(step) or (only and asks(step))]
        due = [step for step in due if (step.id == only.id if only else step.due_at > at)]
        if due:
            t.save([change(step, due_at=min(at, step.due_at)) for step in due if step.due_at])
            t.save(records)
            t.put_into_queue(one, at)
        return len(due)

    @writes
    def mend_execution(self, t, seen, becomes, *records, forget=(), now=None):
        one = seen.execution.workflow_execution_id
        if becomes.workflow_execution_id != one:
            raise ValueError(f"{becomes.workflow_execution_id!r} is not {one!r}")
        if one in t.claims and t.claims[one].worker_id in self.dicts.living:
            raise conflict(one, f"is in the hands of {t.claims[one].worker_id}")
        if t.taken(one) != seen:
            return False
        t.claims.pop(one, None)
        new = (*PROGRESS, "ttl_expires_at", "replay_origin", *NOT_PAUSED)
        t.set(one, **{name: getattr(becomes, name) for name in new})
        t.set(one, output_data=None, recovery_count=0, blocked_reason=None)
        t.set(one, trouble=None, available_at=None)
        gone = {step.id for step in forget}
        tried = {(step.branch, step.step_index, step.attempt) for step in forget}
        t.streams = {
            number: item
            for number, item in t.streams.items()
            if item.workflow_execution_id != one
            or (item.branch, item.step_index, item.attempt) not in tried
        }
        t.progress = {
            key: report
            for key, report in t.progress.items()
            if report.workflow_execution_id != one
            or (report.branch, report.step_index, report.attempt) not in tried
        }
        t.steps = {key: step for key, step in t.steps.items() if step.id not in gone}
        t.save(records)
        if becomes.status.is_terminal:
            t.let_rest(one)
        elif seen.execution.status.is_terminal:
            t.expect_signals(one)
        t.put_into_queue(one, now or r.utc_now())
        return True

    @writes
    def acknowledge(self, t, one, *records, now=None):
        execution = t.get(one)
        if not execution or not execution.status.is_terminal:
            return 0
        failed = t.steps_of(one, kind="STEP", status="FAILED")
        not_undone = [step for step in failed if not step.attempt]
        t.save([change(step, status=d.StepStatus.COMPENSATED) for step in not_undone])
        in_doubt = {step.id for step in failed if step.attempt and t.is_in_doubt(step)}
        new = in_doubt - t.acknowledged.keys()
        t.acknowledged.update(dict.fromkeys(new))
        changed = len(not_undone) + len(new)
        t.save(records if changed else ())
        return changed

    # Pausing

    @writes
    def pause_execution(self, t, one, *records, by, reason=None, now=None):
        r.check_identifier("by", by)
        before = t.find(one)
        if before.status.is_terminal:
            raise finished(before)
        if not before.paused_at:
            t.set(one, paused_at=now or r.utc_now(), paused_by=by)
        t.set(one, paused_reason=reason or before.paused_reason, available_at=None)
        t.save(records)
        self.dicts.pauses += 1
        return not before.paused_at

    @writes
    def resume_execution(self, t, one, *records, now=None):
        if not t.find(one).paused_at:
            return False
        t.set(one, **NOT_PAUSED)
        t.save(records)
        t.put_into_queue(one, now or r.utc_now())
        self.dicts.pauses += 1
        return True

    @writes
    def spread_pauses(self, t, now=None):
        if not t.spreading:
            return False
        parent, _ = t.spreading.popitem()
        holder, at = holder_of(t.executions.get(parent)), now or r.utc_now()
        for child in t.unfinished():
            one, is_its = child.workflow_execution_id, child.parent_execution_id == parent
            if not is_its or child.on_parent_end != "cancel" or child.paused_with == holder:
                continue
            t.set(one, paused_with=holder)
            if holder:
                t.set(one, available_at=None)
                ids = {"workflow_execution_id": one, "signal_name": r.PAUSED_SIGNAL}
                t.receive(d.WorkflowSignal(**ids, status=d.SignalStatus.DELIVERED, created_at=at))
            else:
                t.put_into_queue(one, at)
        self.dicts.pauses += 1
        return True

    @writes
    def begin_pause(self, t, pause, *records):
        before = t.pauses.get((pause.scope, pause.name))
        reason = pause.paused_reason or (before and before.paused_reason)
        t.pauses[pause.scope, pause.name] = change(before or pause, paused_reason=reason)
        self.dicts.pauses += 1
        if before is None or pause.paused_reason is not None:
            t.save(records)
        return before is None

    @writes
    def end_pause(self, t, scope, name="", *records):
        r.check_scope(scope, name)
        self.dicts.pauses += 1
        was_paused = t.pauses.pop((scope, name), None) is not None
        t.save(records if was_paused else ())
        return was_paused

    load_pauses = reads(lambda _, t: [t.pauses[key] for key in sorted(t.pauses)])

    load_signals = reads(lambda _, t, one: select(t.signals, one))

    # Schedules

    @writes
    def save_schedule(self, t, schedule, *records, seen, start=()):
        name = schedule.schedule_name
        if seen and seen.schedule_name != name:
            raise ValueError(f"{name!r} is not {seen.schedule_name!r}")
        if t.schedules.get(name) != seen:
            return False
        is_there = schedule.queue is None or (d.Queue, schedule.queue) in t.limits
        if not (is_there or schedule.trouble):
            raise d.QueueNotFoundError(f"no queue {schedule.queue!r}")
        for new in start:
            if t.start(new):
                t.of_schedule[new.execution.workflow_execution_id] = name
        self.schedules_saved += 1
        before = seen or schedule
        t.schedules[name] = change(as_stored(schedule), created_at=before.created_at)
        t.save(records)
        return True

    @writes
    def delete_schedule(self, t, name, *records):
        r.check_identifier("schedule_name", name)
        was_there = t.schedules.pop(name, None) is not None
        t.save(records if was_there else ())
        return was_there

    @reads
    def load_schedules(self, t):
        return [t.schedules[name] for name in sorted(t.schedules)]

    @reads
    def load_unfinished_of_schedule(self, t, name):
        r.check_identifier("schedule_name", name)
        ids = [one for one, of in t.of_schedule.items() if of == name]
        return sorted(x for x in ids if x in t.executions and not t.get(x).status.is_terminal)

    @reads
    def load_workflows(self, t):
        return sorted(t.workflows.values(), key=lambda one: (one.workflow_type, one.version))

    load_tags = reads(lambda _, t, one: dict(t.tags.get(one, {})))
    load_audit_log = reads(lambda _, t, one: select(t.audit_log, one))

    @reads
    def load_changes(self, t, scope, name=""):
        r.check_named_scope(scope, name)
        return [one for one in t.changes.values() if (one.scope, one.name) == (scope, name)]


def holds(t, claim):
    held = t.claims.get(claim.workflow_execution_id)
    return held is not None and held.fencing_token == claim.fencing_token
