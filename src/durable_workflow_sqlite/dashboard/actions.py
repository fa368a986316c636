"""What can be done to an execution: a page that asks, and the form that does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from durable_workflow_sqlite import commands
from durable_workflow_sqlite.dashboard.reading import Source
from durable_workflow_sqlite.dashboard.rendering import Pages, to_page
from durable_workflow_sqlite.engine import payloads
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.engine.outcome import Cancellation
from durable_workflow_sqlite.engine.step_names import StepName
from durable_workflow_sqlite.errors import (
    DurableWorkflowError,
    ExecutionConflictError,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    StoreError,
)
from durable_workflow_sqlite.reading.executions import ExecutionDetails
from durable_workflow_sqlite.stores import open_store


class Done(NamedTuple):
    """What was done. word: a key of `SAYS`. execution_id: which one to show."""

    word: str
    execution_id: str


class Action(NamedTuple):
    """What a page says, and what its form does."""

    name: str
    title: str
    explanation: str
    keep: str
    do_it: str
    run: Callable[[Client, dict[str, str], str, ExecutionDetails], Awaitable[Done]]
    """Takes who asks for it, too, and the execution as it was.

    Raises ValueError for a form that cannot be done as it is.
    """


SAYS: Final = {
    "signalled": "The signal is stored until a wait takes it.",
    "not_signalled": "A signal with this key was sent before: nothing was sent now.",
    "cancelling": "The request to cancel is stored; the worker of the execution ends it.",
    "not_cancelled": "It is being undone already, or somebody has asked before.",
    "acknowledged": "The note is stored, with your name.",
    "not_acknowledged": "There was nothing to deal with: somebody has already done it.",
    "cancelled": "It is cancelled: there was nothing to undo.",
    "started": "This is the new execution; a worker claims it.",
    "answered": "The answer is stored: a worker takes it, at once or when it claims the execution.",
    "resolved": "When a worker claims it, it continues as if the step had returned that. It checks"
    " the type of the value then: this page tells if it is wrong.",
    "paused": "It is paused, with what is below it: a step that runs ends, and no other begins"
    " until it is resumed.",
    "not_paused": "It was paused already; a new reason is stored.",
    "resumed": "It is resumed: workers may claim it.",
    "not_resumed": "It was not paused itself: somebody has already resumed it, or one above it is"
    " paused.",
    "retried": "The execution is open again; a worker claims it from the step that failed.",
}


_CANCELLED: Final = {
    Cancellation.ASKED: "cancelling",
    Cancellation.ENDED: "cancelled",
    Cancellation.REFUSED: "not_cancelled",
}


def routes(file: str, source: Source, pages: Pages) -> list[Route]:
    """A page and a form for every action."""
    return [
        route
        for action in _ACTIONS
        for route in (
            Route(f"/{action.name}", _asking(action, source, pages), methods=["GET"]),
            Route(f"/{action.name}", _doing(action, file, source, pages), methods=["POST"]),
        )
    ]


def _asking(
    action: Action, source: Source, pages: Pages
) -> Callable[[Request], Awaitable[Response]]:
    async def ask(request: Request) -> Response:
        given = dict(request.query_params.items())
        execution_id = given.get("id", "")
        notes: list[str] = []
        if action.run is _rerun:
            found = await source.read(lambda reader: reader.execution(execution_id))
            notes = [] if found is None else commands.notes_on_rerun(found)
        return await _confirmation(pages, request, action, execution_id, given, notes=notes)

    return ask


def _doing(
    action: Action, file: str, source: Source, pages: Pages
) -> Callable[[Request], Awaitable[Response]]:
    async def do(request: Request) -> Response:
        form: dict[str, str] = request.state.form
        execution_id = form.get("id", "")
        try:
            # A store would create a file, and migrate it. Neither is done from a page.
            found = await source.read(lambda reader: reader.execution(execution_id))
            if found is None:
                raise ExecutionNotFoundError(f"no execution has the id {execution_id!r}")
            async with open_store(file) as store:
                done = await action.run(Client(store), form, who(request), found)
            source.forget()
        except ExecutionNotFoundError as error:
            return await pages.message(request, "No such execution", str(error), status=404)
        except StoreError:
            raise
        except (DurableWorkflowError, ValueError) as error:
            is_about_it = isinstance(error, ExecutionConflictError | ExecutionFinishedError)
            status = 409 if is_about_it else 422
            return await _confirmation(
                pages,
                request,
                action,
                execution_id,
                form,
                wrong=str(error),
                status=status,
            )
        shown = quote(done.execution_id, safe="")
        return to_page(request, f"/execution?id={shown}&done={done.word}")

    return do


async def _confirmation(
    pages: Pages,
    request: Request,
    action: Action,
    execution_id: str,
    given: dict[str, str],
    *,
    notes: Sequence[str] = (),
    wrong: str = "",
    status: int = 200,
) -> Response:
    return await pages.page(
        request,
        "confirm.html",
        status=status,
        action=action.name,
        title=action.title,
        explanation=action.explanation,
        keep=action.keep,
        do_it=action.do_it,
        id=execution_id,
        name=given.get("name", ""),
        branch=given.get("branch", ""),
        index=given.get("index", ""),
        payload=given.get("payload", ""),
        asked=bool(given.get("asked")),
        became=given.get("became", ""),
        failed=given.get("failed", ""),
        key=given.get("key", ""),
        new_id=given.get("new_id", ""),
        notes=notes,
        wrong=wrong,
    )


def who(request: Request) -> str:
    """For the audit log; those who know the token have no names."""
    return "dashboard" if request.client is None else f"dashboard, from {request.client.host}"


async def _signal(client: Client, form: dict[str, str], *_: object) -> Done:
    name, key = form.get("name", ""), form.get("key") or None
    is_sent = await client.send_signal(form["id"], name, json_in(form, "payload"), key=key)
    return Done("signalled" if is_sent else "not_signalled", form["id"])


def json_in(form: dict[str, str], what: str) -> msgspec.Raw | None:
    """What the field `payload` holds; null if that is blank. Raises ValueError for no JSON."""
    try:
        return payloads.from_text(form.get("payload", "").strip() or "null")
    except ValueError as error:
        raise ValueError(f"The {what} is not JSON: {error}. Write text in quotes.") from None


async def _cancel(client: Client, form: dict[str, str], by: str, _: ExecutionDetails) -> Done:
    return Done(_CANCELLED[await client.cancel(form["id"], by=by)], form["id"])


async def _rerun(client: Client, form: dict[str, str], by: str, _: ExecutionDetails) -> Done:
    return Done("started", (await client.rerun(form["id"], by=by)).execution_id)


async def _fork(client: Client, form: dict[str, str], by: str, found: ExecutionDetails) -> Done:
    fork = await client.fork(
        form["id"],
        before=_step_in(form),
        edit=_edit_in(form, found),
        new_id=form.get("new_id", "").strip() or None,
        by=by,
    )
    return Done("started", fork.execution_id)


def _step_in(form: dict[str, str]) -> StepName | None:
    """The step that a form names; None for none. Raises ValueError for half of a name."""
    name, index = form.get("name", "").strip(), form.get("index", "")
    if not name:
        return None
    if not index:
        return name
    if not (index.isascii() and index.isdigit()):
        raise ValueError("The number of the step is missing.")
    return (form.get("branch", ""), name, int(index))


def _edit_in(form: dict[str, str], found: ExecutionDetails) -> dict[StepName, object] | None:
    """The lines of the field `payload`, of which each says the result of a step."""
    lines = [line for line in form.get("payload", "").splitlines() if line.strip()]
    return commands.named_steps(found, commands.edits_from(lines)) if lines else None


async def _resolve(client: Client, form: dict[str, str], by: str, _: ExecutionDetails) -> Done:
    step = _step_in(form)
    if step is None or isinstance(step, str):
        raise ValueError("The number of the step is missing.")
    match form.get("became", "done"):
        case "done":
            await client.resolve(form["id"], step, json_in(form, "value"), by=by)
        case "not-done":
            await client.resolve(form["id"], step, not_done=True, by=by)
        case "failed":
            if not (why := form.get("failed", "").strip()):
                raise ValueError("Say why it fails.")
            await client.resolve(form["id"], step, failed=why, by=by)
        case other:
            raise ValueError(f"{other!r} is not one of the answers.")
    return Done("answered" if form.get("asked") else "resolved", form["id"])


async def _pause(client: Client, form: dict[str, str], by: str, _: ExecutionDetails) -> Done:
    reason = form.get("reason", "").strip() or None
    is_new = await client.pause(form["id"], reason=reason, by=by)
    return Done("paused" if is_new else "not_paused", form["id"])


async def _resume(client: Client, form: dict[str, str], by: str, _: ExecutionDetails) -> Done:
    is_ended = await client.resume(form["id"], by=by)
    return Done("resumed" if is_ended else "not_resumed", form["id"])


async def _retry(client: Client, form: dict[str, str], by: str, found: ExecutionDetails) -> Done:
    step, edit = _step_in(form), _edit_in(form, found)
    await client.retry(form["id"], from_step=step, edit=edit, by=by)
    return Done("retried", form["id"])


async def _acknowledge(client: Client, form: dict[str, str], by: str, _: ExecutionDetails) -> Done:
    is_done = await client.acknowledge(form["id"], by=by)
    return Done("acknowledged" if is_done else "not_acknowledged", form["id"])


_ACTIONS: Final = (
    Action(
        "signal",
        "Send a signal",
        "A message to this execution. It is stored until a wait takes it.",
        "Do not send",
        "Send the signal",
        _signal,
    ),
    Action(
        "cancel",
        "Cancel this execution?",
        "It stops at its next step, is undone, and ends CANCELLED. You cannot reverse this.",
        "Let it go on",
        "Cancel it",
        _cancel,
    ),
    Action(
        "pause",
        "Pause this execution?",
        "A step that runs ends, and its outcome is recorded. No other step, attempt or"
        " compensation begins until somebody resumes it. So it is for its children and theirs,"
        " except detached ones. Signals and deadlines are kept; if its time to live ends meanwhile,"
        " it is undone once it is resumed.",
        "Let it go on",
        "Pause it",
        _pause,
    ),
    Action(
        "resume",
        "Resume this execution?",
        "A worker may claim it at once, and what was paused with it. What is paused itself below it"
        " stays paused. If one above it, its workflow, its queue or everything is paused, too, it"
        " waits until that is resumed.",
        "Leave it paused",
        "Resume it",
        _resume,
    ),
    Action(
        "retry",
        "Retry this execution?",
        "It is opened again and continues from what failed, a step or a compensation. A back-off"
        " ends at once. Completed steps do not run again. If you name a step, it runs again from"
        " there: the records from its outcome on are deleted.",
        "Leave it",
        "Retry it",
        _retry,
    ),
    Action(
        "rerun",
        "Rerun this execution?",
        "A new execution begins, with the same workflow, version, input and tags. The old one"
        " does not change.",
        "Leave it",
        "Rerun it",
        _rerun,
    ),
    Action(
        "fork",
        "Fork this execution?",
        "A new execution begins with the results of this one, up to a step, and runs the rest. This"
        " one does not change, and it alone undoes what it did.",
        "Leave it",
        "Fork it",
        _fork,
    ),
    Action(
        "resolve",
        "What did the step return?",
        "The execution continues as if the step had returned this, without running the step. If"
        " it fails later, the compensation of the step is called with this value.",
        "Leave it",
        "Go on with this",
        _resolve,
    ),
    Action(
        "acknowledge",
        "Is this dealt with?",
        "Do this when you have undone by hand what failed compensations did not undo. Also"
        " find out whether steps that were cut off or timed out took effect. The execution leaves"
        " the lists, and no retry runs these compensations again.",
        "Not yet",
        "It is dealt with",
        _acknowledge,
    ),
)
