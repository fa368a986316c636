"""Coming in with the token, and going out."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from durable_workflow_sqlite.dashboard.protection import SESSION_S, Keys, cookie_header
from durable_workflow_sqlite.dashboard.rendering import Pages, to_page


def routes(keys: Keys, pages: Pages) -> list[Route]:
    async def ask(request: Request) -> Response:
        return await _form(request, request.query_params.get("next", ""))

    async def come_in(request: Request) -> Response:
        form: dict[str, str] = request.state.form
        wanted = form.get("next", "")
        if not keys.is_token(form.get("token", "")):
            return await _form(request, wanted, wrong="That is not the token.", status=401)
        response = to_page(request, wanted if _is_ours(wanted) else "/")
        cookie = cookie_header(
            request.scope, keys.session_cookie, keys.new_session(), max_age=SESSION_S
        )
        response.headers.append("set-cookie", cookie)
        return response

    async def go_out(request: Request) -> Response:
        response = to_page(request, "/login")
        cookie = cookie_header(request.scope, keys.session_cookie, "", max_age=0)
        response.headers.append("set-cookie", cookie)
        return response

    async def _form(
        request: Request, wanted: str, *, wrong: str = "", status: int = 200
    ) -> Response:
        return await pages.page(
            request, "login.html", status=status, is_login=True, next=wanted, wrong=wrong
        )

    return [
        Route("/login", ask, methods=["GET"]),
        Route("/login", come_in, methods=["POST"]),
        Route("/logout", go_out, methods=["POST"]),
    ]


def _is_ours(place: str) -> bool:
    """Whether it is a place below our prefix, and no way to another site."""
    return (
        place.startswith("/")
        and not place.startswith("//")
        and place.isascii()
        and place.isprintable()
        and "\\" not in place
    )
