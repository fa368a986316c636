"""A small payment service: an HTTP server that keeps a ledger on disk.

    python payment_service.py LEDGER

It prints its port. If it gets an idempotency key again, it answers with the charge of the first
request, and charges nobody again. Real payment services do the same.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SECONDS_A_CHARGE = 0.03


class Ledger:
    """Charges by their idempotency key, and a line of the file for each."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._charges: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def charge(self, key: str, order: str, amount: str) -> dict[str, Any]:
        with self._lock:
            if key not in self._charges:
                number = f"charge-{len(self._charges) + 1}"
                self._charges[key] = {"charge": number, "order": order, "amount": amount}
                self._file.write(json.dumps({"key": key, **self._charges[key]}) + "\n")
                self._file.flush()
                os.fsync(self._file.fileno())
            return self._charges[key]

    def close(self) -> None:
        self._file.close()


class Handler(BaseHTTPRequestHandler):
    ledger: Ledger

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        charge = self.ledger.charge(
            self.headers["Idempotency-Key"], request["order"], request["amount"]
        )
        time.sleep(SECONDS_A_CHARGE)  # the money has moved; the answer is still on its way
        answer = json.dumps(charge).encode()
        with suppress(BrokenPipeError):  # who asked may be dead by now
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Keep the demo's output to itself."""


if __name__ == "__main__":
    Handler.ledger = Ledger(Path(sys.argv[1]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
