"""The command line and the dashboard, with the key and without."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from durable_workflow_sqlite import AesGcmCodec, dashboard, open_store
from durable_workflow_sqlite.encryption import add_new_key, read_key_file
from durable_workflow_sqlite.testing import check_code
from tests.cli.conftest import ENVIRONMENT
from tests.commands import COMMAND, run_command
from tests.databases import new_database
from tests.encryption.stories import ALL, SECRET, live
from tests.processes import until

PAGES = ("/", "/executions", "/execution?id=all", "/execution?id=fails", "/schedules")
VARIABLE = "DURABLE_WORKFLOW_KEY_FILE"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    add_new_key(file, "first")
    return file


@pytest.fixture
def file(tmp_path: Path, keys: Path) -> Path:
    database = new_database(tmp_path / "workflows.db")

    async def main() -> None:
        async with open_store(database, codec=AesGcmCodec.from_file(keys)) as store:
            await live(store)

    asyncio.run(main())
    return database


def run(*words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return run_command(*words, env={**ENVIRONMENT, **env})


def told(*words: str | Path, **env: str) -> str:
    done = run(*words, **env)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


SHOWS = [
    ("show", "all"),
    ("show", "all", "--json"),
    ("show", "fails"),
    ("show", "mistaken"),
    ("show", "resolved"),
    ("list",),
    ("list", "--json"),
    ("status",),
    ("status", "--json"),
    ("audit",),
    ("schedule", "list"),
    ("schedule", "show", "nightly"),
]


@pytest.mark.few(4)
@pytest.mark.parametrize("words", SHOWS, ids=" ".join)
def test_a_command_shows_values_with_the_key_and_encrypted_without(
    file: Path, keys: Path, words: tuple[str, ...]
) -> None:
    count = 2 if words[0] == "schedule" else 1
    command = [*words[:count], file, *words[count:]]
    without = told(*command)
    assert SECRET not in without
    assert "ncoded:" not in without
    by_option = told(*command, "--key-file", keys)
    assert "ncoded:" not in by_option
    assert "encrypted" not in by_option
    assert told("--key-file", keys, *command).count(SECRET) == by_option.count(SECRET)
    assert told(*command, **{VARIABLE: str(keys)}).count(SECRET) == by_option.count(SECRET)
    if words[0] == "show":
        assert "encrypted" in without
        assert SECRET in by_option


def test_a_command_acts_with_the_key_and_leaves_it_alone_without(file: Path, keys: Path) -> None:
    refused = run("rerun", file, "all", "--yes")
    assert refused.returncode == 1
    assert "the store has no codec" in refused.stderr
    told("rerun", file, "all", "--yes", "--new-id", "again-2", "--key-file", keys)
    shown = json.loads(told("show", file, "again-2", "--json", "--key-file", keys))
    assert SECRET in json.dumps(shown)
    assert SECRET.encode() not in file.read_bytes()


def test_a_file_of_keys_that_cannot_be_used_is_an_error_of_one_line(
    file: Path, keys: Path, tmp_path: Path
) -> None:
    keys.chmod(0o644)
    for words in (("list", file, "--key-file", keys), ("keys", "list", file, "--key-file", keys)):
        done = run(*words)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "chmod 600" in line
    done = run("show", file, "all", "--key-file", tmp_path / "nothing")
    assert done.returncode == 1
    assert "cannot read the file of keys" in done.stderr


def test_an_export_needs_the_key_and_holds_the_values(
    file: Path, keys: Path, tmp_path: Path
) -> None:
    refused = run("export", file, "waits")
    assert refused.returncode == 1
    assert "cannot export execution 'waits'" in refused.stderr
    assert "no codec" in refused.stderr
    assert SECRET in told("export", file, "waits", "--key-file", keys)


def test_check_code_says_what_it_cannot_decode(
    file: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = check_code(file, ALL)
    assert not without.is_ok
    assert "no codec" in str(without.problems[0])
    monkeypatch.setenv(VARIABLE, str(keys))
    with_key = check_code(file, ALL)
    assert [one.workflow_type for one in with_key.problems] == ["mistaken"]


def test_doctor_says_which_keys_are_missing(file: Path, keys: Path, tmp_path: Path) -> None:
    def found(*words: str | Path) -> dict[str, str]:
        done = run("doctor", file, "--json", *words)
        findings = json.loads(done.stdout)
        (one,) = [one for one in findings if one["check"] == "encoded"]
        return dict(one)

    assert found()["level"] == "warning"
    assert "no key is given" in found()["message"]
    assert found("--quick")["level"] == "warning"
    assert found("--key-file", keys)["level"] == "ok"
    add_new_key(keys, "second")
    noted = found("--key-file", keys)
    assert noted["level"] == "note"
    assert "under an older key" in noted["message"]
    other = tmp_path / "other"
    add_new_key(other, "other")
    missing = found("--key-file", other)
    assert missing["level"] == "error"
    assert "first" in missing["message"]


def test_doctor_says_nothing_of_a_file_of_plain_values(tmp_path: Path) -> None:
    done = run("doctor", new_database(tmp_path / "workflows.db"), "--json", "--verbose")
    assert "encoded" not in {one["check"] for one in json.loads(done.stdout)}


def test_keys_are_made_counted_and_rotated(file: Path, keys: Path) -> None:
    def counted() -> dict[str | None, int]:
        rows = json.loads(told("keys", "list", file, "--json", "--key-file", keys))
        return {one["key"]: one["count"] for one in rows}

    before = counted()
    assert set(before) <= {"first", None}
    told("keys", "new", keys, "second")
    assert [name for name, _ in read_key_file(keys)] == ["second", "first"]
    assert "changed" in told("keys", "rotate", file, "--key-file", keys)
    assert counted() == {"second": sum(before.values())}
    assert told("keys", "rotate", file, "--key-file", keys) == "changed 0 rows\n"
    told("keys", "rotate", file, "--decrypt", "--key-file", keys)
    assert set(counted()) == {None}
    assert SECRET in told("show", file, "all")


def test_a_rotation_without_keys_or_with_other_keys_changes_no_value(
    file: Path, keys: Path, tmp_path: Path
) -> None:
    assert run("keys", "rotate", file).returncode == 2
    other = tmp_path / "other"
    add_new_key(other, "other")
    done = run("keys", "rotate", file, "--key-file", other)
    assert done.returncode == 1
    assert "could not be decrypted" in done.stderr
    assert SECRET in told("show", file, "all", "--key-file", keys)


def test_the_pages_show_values_with_the_key_and_encrypted_without(
    file: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pages() -> str:
        app = dashboard.app(file, allowed_hosts=["testserver"])
        with TestClient(app) as client:
            answers = [
                client.get(one)
                for one in (
                    "/",
                    "/executions",
                    "/execution?id=all",
                    "/execution?id=fails",
                    "/schedules",
                )
            ]
        assert [one.status_code for one in answers] == [200] * len(answers)
        return "".join(one.text for one in answers)

    without = pages()
    assert SECRET not in without
    assert "ncoded:" not in without
    assert "encrypted" in without
    monkeypatch.setenv(VARIABLE, str(keys))
    with_key = pages()
    assert SECRET in with_key
    assert "encrypted" not in with_key


@pytest.mark.campaign
def test_a_worker_reads_the_keys(file: Path, keys: Path) -> None:
    told("signal", file, "waits", "number", "7", "--key-file", keys)
    command = [*COMMAND, "worker", str(file), "--app", "tests.encryption.stories:ALL"]
    with subprocess.Popen(
        [*command, "--key-file", str(keys)], env=ENVIRONMENT, stderr=subprocess.PIPE
    ) as worker:
        try:
            asyncio.run(until(lambda: "COMPLETED" in told("show", file, "waits")))
        finally:
            worker.terminate()
    shown = json.loads(told("show", file, "waits", "--json", "--key-file", keys))
    assert shown["output_data"] in (7, "7")
