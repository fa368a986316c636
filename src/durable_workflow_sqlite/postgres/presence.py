"""Whether workers live, and when something has changed: what needs a session of its own.

A worker holds an advisory lock in this session for as long as it lives. The server drops the lock
when the session ends: with the process, however it ends. A process that is frozen keeps its
session, and so the server ends one that says nothing for `SILENT_S`; this one says something four
times within that. Fencing makes a late write of a worker that was taken for dead harmless.

The session also listens. Each store that writes what others wait for tells them so. That is a hint:
the counter grows each second without it.

Behind a pooler there is no session of one's own. A worker has a lease there: a row with the time
until which it is taken to live, by the clock of the server. It writes the row four times within
`SILENT_S`. Nothing tells it of changes, so the counter grows more often.
"""

from __future__ import annotations

import math
import os
import selectors
import socket
import threading
import uuid
import zlib
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import psycopg

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.postgres.queries import Queries
from durable_workflow_sqlite.postgres.session import Session, without_password
from durable_workflow_sqlite.store.transactions import Liveness

SILENT_S: Final = 10
"""After how many seconds without a word the server takes a worker for dead."""

LOOK_EVERY_S: Final = 1.0
POLL_EVERY_S: Final = 0.1
"""How often the counter grows behind a pooler."""

AGAIN_AFTER_S: Final = 0.5
"""How long to wait before a lost session is opened again."""

COME_BACK_S: Final = 2.0
"""How long a worker that has come back takes the others for alive.

If the server was restarted, or a replica has taken its place, all of them have lost their locks.
"""


def lock_space(schema: str) -> int:
    """The 15 bits with which the keys of a schema's locks begin."""
    return zlib.crc32(schema.encode()) & 0x7FFF


def lock_key(space: int, worker_id: str) -> int:
    """The key of a worker's lock: the space of its schema, and 48 bits of its id."""
    return space << 48 | int(worker_id[:12], 16)


def key_of_moves_into(schema: str) -> int:
    """The key of the lock that a move into a schema holds; no worker has such a one."""
    return -1 - lock_space(schema)


class Presence(Liveness):
    """Of one store. `acquire` takes the lock, and `listen` does not; both start its thread.

    session: the one of the transactions, to ask for other workers within an operation.
    direct: the URL of the server, if the session leads to a pooler.
    """

    def __init__(
        self, session: Session, queries: Queries, schema: str, direct: str | None = None
    ) -> None:
        self._worker_id = uuid.uuid4().hex
        self._session = session
        self._queries = queries
        self._schema = schema
        self._url = session.url if direct is None else direct
        self._has_lease = session.is_pooled and direct is None
        self._space = lock_space(schema)
        self._is_wanted = False
        self._is_held = threading.Event()
        self._was_held = False
        self._others_may_come_until = 0.0
        self._problem: Exception | None = None
        self._heard = 0
        self._thread: threading.Thread | None = None
        self._waker, self._woken = socket.socketpair()
        self._closed = False
        self._process = os.getpid()

    @property
    def worker_id(self) -> str:
        return self._worker_id

    @property
    def heard(self) -> int:
        """A number that grows when something may have changed; the first look begins to listen."""
        self.listen()
        return self._heard

    def listen(self) -> None:
        if self._thread is None and not self._closed and self._process == os.getpid():
            self._thread = threading.Thread(
                target=self._run, name="durable-workflow-presence", daemon=True
            )
            self._thread.start()

    def acquire(self) -> None:
        if self._is_held.is_set():
            return
        self._is_wanted = True
        self.listen()
        self._wake()
        # Only the first time, since the event loop waits for it: a lost one is taken again.
        if not self._is_held.wait(0 if self._was_held else SILENT_S):
            raise StoreError(
                f"cannot become a worker of {without_password(self._url)}:"
                f" {self._problem or 'its server does not answer'}"
            )

    def is_alive(self, worker_id: str) -> bool:
        if worker_id == self._worker_id or monotonic() < self._others_may_come_until:
            return True
        # Who has just lost its own lock does not know of others: they may have lost theirs, too.
        return not self._is_dead(worker_id) or (self._was_held and self._is_dead(self._worker_id))

    def count_alive(self) -> int:
        return max(1, self._queries.count_alive(self._session, lock_space=self._space) or 0)

    def release(self) -> None:
        """Become visible as dead, and end the thread. Harmless when done already."""
        self._closed = True
        if self._process != os.getpid():
            return
        self._wake()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._waker.close()
        self._woken.close()

    def _is_dead(self, worker_id: str) -> bool:
        key = self._key(worker_id)
        return bool(self._queries.is_dead(self._session, worker_id=worker_id, lock_key=key))

    def _key(self, worker_id: str) -> int:
        return lock_key(self._space, worker_id)

    def _wake(self) -> None:
        with suppress(OSError):
            self._waker.send(b"!")

    # In the thread

    def _run(self) -> None:
        while not self._closed:
            session = Session(self._url, is_pooled=self._has_lease)
            try:
                (self._renew if self._has_lease else self._attend)(session)
            except (psycopg.Error, OSError) as error:
                self._problem = error
            finally:
                self._is_held.clear()
                with suppress(psycopg.Error):
                    session.close()
            self._heard += 1
            self._pause()

    def _pause(self) -> None:
        if not self._closed:
            with selectors.DefaultSelector() as selector:
                selector.register(self._woken, selectors.EVENT_READ)
                selector.select(AGAIN_AFTER_S)

    def _attend(self, session: Session) -> None:
        """Hold the lock, listen, and say something now and then, until the session is lost."""
        connection = session.connection
        connection.execute(f"set idle_session_timeout = '{SILENT_S}s'".encode())
        connection.execute(f"listen {self._schema}".encode())
        self._heard += 1  # what came before it listened
        spoke_at = monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._closed:
                if self._is_wanted and not self._is_held.is_set():
                    key = self._key(self._worker_id)
                    if self._queries.become_alive(session, lock_key=key):
                        self._hold()
                selector_ready = selector.select(LOOK_EVERY_S)
                if not selector_ready:
                    self._heard += 1
                self._hear(connection, {key.fileobj for key, _ in selector_ready})
                if monotonic() - spoke_at > SILENT_S / 4:
                    self._speak(connection)
                    spoke_at = monotonic()
        if self._is_held.is_set():
            self._queries.become_dead(session, lock_key=self._key(self._worker_id))

    def _speak(self, connection: psycopg.Connection[Any]) -> None:
        """Say something, and wait for the answer no longer than the server waits for this."""
        protocol = connection.pgconn
        protocol.send_query(b"select 1")
        give_up_at = monotonic() + SILENT_S
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            answer: object = protocol
            while answer is not None:
                # To ask for a part of the answer that has not come waits for it in libpq, without
                # an end, and keeps every other thread of Python from running.
                while protocol.is_busy():
                    if not selector.select(max(0.0, give_up_at - monotonic())):
                        raise psycopg.OperationalError("the server does not answer")
                    protocol.consume_input()
                answer = protocol.get_result()

    def _renew(self, session: Session) -> None:
        """Have a lease, if it is wanted, until the connection is lost."""
        self._queries.delete_old_leases(session)
        renewed_at = -math.inf
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._closed:
                if self._is_wanted and monotonic() - renewed_at > SILENT_S / 4:
                    renewed_at = monotonic()
                    self._queries.renew_lease(session, worker_id=self._worker_id, seconds=SILENT_S)
                    self._hold()
                if selector.select(POLL_EVERY_S):
                    self._woken.recv(1024)
                self._heard += 1
        if self._is_held.is_set():
            self._queries.delete_lease(session, worker_id=self._worker_id)

    def _hold(self) -> None:
        self._problem = None
        if self._was_held and not self._is_held.is_set():
            self._others_may_come_until = monotonic() + COME_BACK_S
        self._was_held = True
        self._is_held.set()

    def _hear(self, connection: psycopg.Connection[Any], ready: set[Any]) -> None:
        if self._woken in ready:
            self._woken.recv(1024)
        if connection.fileno() in ready:
            connection.pgconn.consume_input()
        while (told := connection.pgconn.notifies()) is not None:
            if told.be_pid != self._own_process():
                self._heard += 1

    def _own_process(self) -> int | None:
        return self._session.process
