"""The page of questions to people, and the page that answers one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from durable_workflow_sqlite.dashboard.actions import who
from durable_workflow_sqlite.dashboard.answer_forms import form_of, value_in
from durable_workflow_sqlite.dashboard.reading import Source
from durable_workflow_sqlite.dashboard.rendering import Pages, to_page
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.errors import (
    DurableWorkflowError,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    QuestionAnsweredError,
    QuestionNotFoundError,
    StoreError,
)
from durable_workflow_sqlite.questions import Question
from durable_workflow_sqlite.stores import open_store

SHOWN: Final = 200
"""Questions on one page."""

_OF_ONE: Final = 1000

SAYS: Final = {"answered": "The answer is stored; a worker goes on with it."}

_TOO_LATE: Final = (
    ExecutionFinishedError,
    ExecutionNotFoundError,
    QuestionAnsweredError,
    QuestionNotFoundError,
)


def reading_routes(source: Source, pages: Pages) -> list[Route]:
    """The list, which is there also where nothing may be done."""

    async def show(request: Request) -> Response:
        to = request.query_params.get("to", "").strip() or None
        found = await source.read(lambda reader: reader.questions(to=to, limit=SHOWN + 1))
        receivers = {one.to for one in found if one.to is not None}
        return await pages.page(
            request,
            "questions.html",
            place="questions",
            questions=found[:SHOWN],
            has_more=len(found) > SHOWN,
            to=to or "",
            receivers=sorted(receivers),
            done=SAYS.get(request.query_params.get("done", ""), ""),
        )

    return [Route("/questions", show, methods=["GET"])]


def routes(file: str, source: Source, pages: Pages) -> list[Route]:
    """The page with the form, and what the form does."""

    async def question_of(given: Mapping[str, str]) -> Question | None:
        execution_id, signal = given.get("id", ""), given.get("signal", "")
        try:
            found = await source.read(
                lambda reader: reader.questions(execution_id=execution_id, limit=_OF_ONE)
            )
        except ValueError:
            return None
        return next((one for one in found if one.signal_name == signal), None)

    async def form_page(
        request: Request, given: Mapping[str, str], *, wrong: str = "", status: int = 200
    ) -> Response:
        question = await question_of(given)
        if question is None or (question.is_answered and not wrong):
            words = wrong or "It was answered or closed, or there never was one."
            return await pages.message(
                request, "No open question", words, status=status if wrong else 404
            )
        details = question.details
        return await pages.page(
            request,
            "answer.html",
            status=status,
            place="questions",
            question=question,
            details=None if details is None else msgspec.json.encode(details).decode(),
            field=form_of(question.schema),
            given=given if wrong else {},
            wrong=wrong,
        )

    async def ask(request: Request) -> Response:
        return await form_page(request, request.query_params)

    async def do(request: Request) -> Response:
        form: dict[str, str] = request.state.form
        question = await question_of(form)
        try:
            if question is None:
                raise QuestionNotFoundError("It was answered or closed, or there never was one.")
            value = value_in(form_of(question.schema), form)
            by, name = who(request), form.get("by", "").strip()
            async with open_store(file) as store:
                await Client(store).answer(
                    question.workflow_execution_id,
                    question.signal_name,
                    value,
                    by=f"{name} ({by})" if name else by,
                )
        except StoreError:
            raise
        except (DurableWorkflowError, ValueError) as error:
            status = 409 if isinstance(error, _TOO_LATE) else 422
            return await form_page(request, form, wrong=str(error), status=status)
        source.forget()
        return to_page(request, "/questions?done=answered")

    return [
        Route("/answer", ask, methods=["GET"]),
        Route("/answer", do, methods=["POST"]),
    ]
