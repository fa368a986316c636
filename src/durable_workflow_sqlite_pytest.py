"""The pytest plugin: fixtures `durable` and `async_durable`.

Outside of the package, so that a pytest run that uses no fixture of it does not import it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from durable_workflow_sqlite.testing import AsyncSandbox, Sandbox


@pytest.fixture
def durable(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox for workflows, in a test that is a plain function."""
    from durable_workflow_sqlite.testing import Sandbox

    sandbox = Sandbox()
    failed_before = request.session.testsfailed
    try:
        yield sandbox
    finally:
        sandbox.close()
    if request.session.testsfailed == failed_before:
        sandbox.check()


@pytest.fixture
def async_durable(request: pytest.FixtureRequest) -> Iterator[AsyncSandbox]:
    """A sandbox for workflows, in an async test; it needs no plugin for async fixtures."""
    from durable_workflow_sqlite.testing import AsyncSandbox

    sandbox = AsyncSandbox()
    failed_before = request.session.testsfailed
    try:
        yield sandbox
    finally:
        sandbox.abandon()  # the event loop of the test may be gone
    if request.session.testsfailed == failed_before:
        sandbox.check()
