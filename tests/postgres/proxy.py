"""A network between a program and the server of the tests: it delays, stalls, or is cut."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit


class Network:
    """delay_s: how long each piece takes, in each direction. is_stalled: nothing comes through."""

    def __init__(self, socket_of_server: str, folder: Path) -> None:
        self.delay_s = 0.0
        self.is_stalled = False
        self._socket_of_server = socket_of_server
        self._path = folder / ".s.PGSQL.5432"
        self._loop = asyncio.new_event_loop()
        self._ends: set[asyncio.StreamWriter] = set()
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._is_up.wait()

    def lead_to(self, url: str) -> None:
        """Take those who connect from now on to another server, as a name that has moved does."""
        self._socket_of_server = _socket_of(url)

    def cut(self) -> None:
        """Every connection is lost, and its ends hear of it."""
        self._loop.call_soon_threadsafe(lambda: [one.close() for one in list(self._ends)])

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_unix_server(self._connect, path=str(self._path))
        )
        self._is_up.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(asyncio.sleep(0))  # transports are closed by callbacks
            self._loop.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far = await asyncio.open_unix_connection(self._socket_of_server)
        except OSError:  # nobody listens there
            writer.transport.abort()
            return
        far_reader, far_writer = far
        self._ends |= {writer, far_writer}
        try:
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        finally:
            self._ends -= {writer, far_writer}
            for one in (writer, far_writer):
                one.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                await asyncio.sleep(self.delay_s)
                while self.is_stalled:
                    await asyncio.sleep(0.01)
                writer.write(piece)
                await writer.drain()
        writer.close()


@contextmanager
def network_to(url: str) -> Generator[tuple[Network, str]]:
    """A network, and the URL of the same database over it."""
    parts = urlsplit(url)
    folder = Path(tempfile.mkdtemp(prefix="net-"))
    network = Network(_socket_of(url), folder)
    try:
        yield network, f"postgresql://{parts.username}@{quote(str(folder), safe='')}{parts.path}"
    finally:
        network.close()
        shutil.rmtree(folder, ignore_errors=True)


def _socket_of(url: str) -> str:
    return f"{unquote(urlsplit(url).hostname or '')}/.s.PGSQL.5432"
