"""What is recorded of the calls of the OpenAI Agents SDK, and what is made of it again."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from typing import Any, Final, cast

from agents import (
    ModelResponse,
    ToolOutputFileContent,
    ToolOutputImage,
    ToolOutputText,
    Usage,
)
from agents.items import TResponseOutputItem, TResponseStreamEvent
from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_jsonable_python

_STRUCTURED: Final = (ToolOutputText, ToolOutputImage, ToolOutputFileContent)


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    """Made when it is needed first, which takes a moment."""
    kinds: dict[str, Any] = {
        "output": list[TResponseOutputItem],
        "usage": Usage,
        "event": TResponseStreamEvent,
    }
    return TypeAdapter(kinds[kind])


def question(
    system_instructions: str | None,
    input: Any,  # noqa: A002
    model_settings: Any,
    tools: list[Any],
    output_schema: Any,
    handoffs: list[Any],
    *_: Any,
    previous_response_id: str | None = None,
    conversation_id: str | None = None,
    prompt: Any = None,
    **__: Any,
) -> Any:
    """What the answer of a model is an answer to. A model with another name gives it as well."""
    schema = None
    if output_schema is not None and not output_schema.is_plain_text():
        schema = output_schema.json_schema()
    return to_jsonable_python(
        [
            system_instructions,
            input,
            sorted(tool.name for tool in tools),
            sorted(handoff.tool_name for handoff in handoffs),
            schema,
            previous_response_id,
            conversation_id,
            prompt,
        ]
    )


def to_plain(value: Any) -> Any:
    """What pydantic writes, without what was never set: else it would be sent back as a null."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True, warnings=False)
    return to_jsonable_python(value)


def response_to_plain(response: ModelResponse) -> dict[str, Any]:
    others = {
        field.name: getattr(response, field.name)
        for field in dataclasses.fields(response)
        if field.name not in ("output", "usage")
    }
    return {
        "output": [to_plain(item) for item in response.output],
        "usage": _adapter("usage").dump_python(response.usage, mode="json", warnings=False),
        **to_jsonable_python(others),
    }


def response_from_plain(plain: dict[str, Any]) -> ModelResponse:
    output, usage = plain.pop("output"), plain.pop("usage")
    return ModelResponse(
        output=_adapter("output").validate_python(output),
        usage=_adapter("usage").validate_python(usage),
        **plain,
    )


def output_to_plain(output: Any) -> Any:
    """What a tool returned, as the model reads it: data as it is, or the text of anything else."""
    is_list = isinstance(output, list | tuple)
    items = cast("list[Any]", output if is_list else [output])
    plain: Any = output
    if items and all(isinstance(item, (*_STRUCTURED, dict)) for item in items):
        parts = [
            item.model_dump(exclude_none=True) if isinstance(item, _STRUCTURED) else item
            for item in items
        ]
        plain = parts if is_list else parts[0]
    try:
        again = json.loads(json.dumps(plain))
    except (TypeError, ValueError):
        return str(plain)
    return plain if again == plain and str(again) == str(plain) else str(plain)


def event_from_plain(plain: Any) -> Any:
    """An event of a stream; None for a stream without any."""
    return None if plain is None else _adapter("event").validate_python(plain)
