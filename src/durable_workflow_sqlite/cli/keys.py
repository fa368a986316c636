"""The commands of the keys: a new one, what each has encoded, encrypting all with the newest."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.cli.arguments import AsJson, PlainForm, form_of, on_database
from durable_workflow_sqlite.cli.output import WrongUsageError
from durable_workflow_sqlite.cli.progress import progress
from durable_workflow_sqlite.encryption import KEY_FILE_VARIABLE, add_new_key
from durable_workflow_sqlite.stores import codec_of_environment, open_reader, open_store

app = typer.Typer(rich_markup_mode=None)
commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The keys that encrypt the values in a database.",
)
app.add_typer(commands, name="keys")


@app.callback()
def _group() -> None:  # pyright: ignore[reportUnusedFunction]
    """A callback: so that Typer makes a group of the one command."""


@commands.command()
def new(
    keys: Annotated[Path, typer.Argument(metavar="KEYS", help="the file of keys; made if needed")],
    key_id: Annotated[str, typer.Argument(metavar="ID", help="a name for the key, as 2026-11")],
) -> None:
    """Put a new random key before the others of a file of keys. It encrypts what is written from
    now on by workers that start with this file; the others still decrypt."""
    add_new_key(keys, key_id)
    output.say(f"{keys} has a new key {key_id!r}. Keep a copy of the file apart from the database")


@on_database(commands, name="list")
def list_(
    file: str,
    form: Annotated[
        PlainForm | None, typer.Option("--output", "-o", help="how to write it")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how many values each key has encrypted, and how many are plain. It reads them all."""
    with open_reader(file) as reader:
        found = reader.encodings()
    if form_of(form, as_json=as_json) == "json":
        output.write_json(found)
        return
    tables.write_table(
        "keys",
        ["key", "values", "encrypts", "is given"],
        [
            [
                "(plain)" if one.key is None else one.key,
                one.count,
                "yes" if one.is_current else "",
                "" if one.key is None else "yes" if one.is_known else "no",
            ]
            for one in found
        ],
        empty="the database holds no values",
    )


@on_database(commands)
def rotate(
    file: str,
    decrypt: Annotated[
        bool, typer.Option("--decrypt", help="decrypt all values instead: they are plain then")
    ] = False,
) -> None:
    """Encrypt with the first key what another key has encrypted, and what is plain. Workers may run
    meanwhile. If it is interrupted, run it again."""
    if codec_of_environment() is None:
        raise WrongUsageError(
            f"no keys are given; name their file by --key-file or by {KEY_FILE_VARIABLE}"
        )

    async def recode() -> int:
        async with open_store(file) as store:
            with progress("decrypting" if decrypt else "encrypting", None) as advance:
                done = await store.recode(to_plain=decrypt, on_progress=advance)
        output.say(f"changed {done.rows:,} rows")
        if done.left:
            output.fail(
                f"{done.left:,} values could not be decrypted, and are as they were: {done.problem}"
            )
        return done.left

    if asyncio.run(recode()):
        raise typer.Exit(1)
