"""Leave requests behind Flask: a workflow that waits for days, in an application without `await`.

    flask --app flask_app run

    curl -X POST localhost:5000/requests/kim-may -H 'content-type: application/json' \
         -d '{"who": "kim", "days": 5}'
    curl -X POST localhost:5000/requests/kim-may/decision -H 'content-type: application/json' \
         -d '{"by": "lee", "is_yes": true}'
    curl localhost:5000/requests/kim-may

Stop the server while a request waits for its decision: the next one goes on with it. Each worker
process of a server opens the file for itself, after it has forked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from flask import Blueprint, Flask, Response, abort, current_app, jsonify, request

from durable_workflow_sqlite import (
    ExecutionConflictError,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    SignalTimeoutError,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.blocking import DurableEngine, SqliteCheckpointStore


@dataclass
class Leave:
    who: str
    days: int


@dataclass
class Decision:
    by: str
    is_yes: bool


@workflow
async def leave(ctx: WorkflowContext, wanted: Leave) -> str:
    await ctx.step("ask", mail, "the lead", f"may {wanted.who} be away for {wanted.days} days?")
    try:
        decision = await ctx.wait_signal("decision", timeout=timedelta(days=7), type=Decision)
    except SignalTimeoutError:
        decision = Decision("the calendar", True)  # no answer means yes
    answer = f"{'yes' if decision.is_yes else 'no'}, says {decision.by}"
    await ctx.step("answer", mail, wanted.who, answer)
    return answer


def mail(whom: str, text: str) -> None:
    print(f"dear {whom}: {text}")


pages = Blueprint("requests", __name__)


def engine() -> DurableEngine:
    found: DurableEngine = current_app.extensions["durable"]
    return found


@pages.post("/requests/<name>")
def start(name: str) -> tuple[Response, int]:
    """The same request again starts nothing new."""
    try:
        engine().start(leave, body(Leave), execution_id=name)
    except ExecutionConflictError as error:
        abort(409, str(error))
    return jsonify(name=name), 202


@pages.get("/requests/<name>")
def look(name: str) -> Response:
    try:
        execution = engine().load(name)
    except ExecutionNotFoundError as error:
        abort(404, str(error))
    answer = engine().handle(name).result() if execution.status.is_terminal else None
    return jsonify(name=name, status=execution.status, answer=answer)


@pages.post("/requests/<name>/decision")
def decide(name: str) -> tuple[str, int]:
    try:
        engine().send_signal(name, "decision", body(Decision))
    except ExecutionNotFoundError as error:
        abort(404, str(error))
    except ExecutionFinishedError as error:
        abort(409, str(error))
    return "", 204


def body(kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(request.get_data(), type=kind)
    except msgspec.MsgspecError as error:
        abort(400, str(error))


def open_engine(database: Path) -> DurableEngine:
    """The engine is closed when the process ends; the next process resumes its executions."""
    engine = DurableEngine(SqliteCheckpointStore.file(database), workflows=[leave])
    engine.open()
    return engine


def create_app(engine: DurableEngine | None = None) -> Flask:
    app = Flask(__name__)
    app.extensions["durable"] = engine or open_engine(Path("workflows.db"))
    app.register_blueprint(pages)
    return app
