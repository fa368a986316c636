"""`AesGcmCodec`, and its files of keys."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    AesGcmCodec,
    KeyFileError,
    PayloadCodec,
    PayloadDecodeError,
    PayloadKeyError,
    open_reader,
    open_store,
)
from durable_workflow_sqlite.encryption import add_new_key, read_key_file
from durable_workflow_sqlite.payload_codec import RotatingCodec
from tests.databases import new_database

KEY = b"k" * 32
PLACE = '["step_checkpoints","e","",0,1,"output_data"]'


def key_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def in_base64(key: bytes) -> str:
    return base64.b64encode(key).decode()


@pytest.mark.parametrize("size", [16, 24, 32])
@pytest.mark.parametrize("data", [b"", b"1", b"x" * 100_000])
def test_what_was_encoded_decodes_at_its_place_alone(size: int, data: bytes) -> None:
    codec = AesGcmCodec([("k", b"k" * size)])
    encoded = codec.encode(data, PLACE)
    assert codec.decode(encoded, PLACE) == data
    assert data == b"" or len(data) < 2 or data not in encoded
    with pytest.raises(PayloadDecodeError, match="its place"):
        codec.decode(encoded, PLACE.replace("0", "1"))


def test_the_same_value_is_never_encoded_the_same_way() -> None:
    codec = AesGcmCodec([("k", KEY)])
    assert len({codec.encode(b"7", PLACE) for _ in range(1000)}) == 1000


def test_each_changed_byte_is_refused() -> None:
    codec = AesGcmCodec([("k", KEY), ("j", b"j" * 32)])
    encoded = codec.encode(b"some value", PLACE)
    for at in range(len(encoded)):
        for bit in (1, 128):
            changed = bytearray(encoded)
            changed[at] ^= bit
            with pytest.raises(PayloadDecodeError):
                codec.decode(bytes(changed), PLACE)
    for end in range(len(encoded)):
        with pytest.raises(PayloadDecodeError):
            codec.decode(encoded[:end], PLACE)


def test_the_id_of_the_key_is_in_the_header() -> None:
    old, new = AesGcmCodec([("old", KEY)]), AesGcmCodec([("new", b"n" * 32), ("old", KEY)])
    assert isinstance(new, PayloadCodec)
    assert isinstance(new, RotatingCodec)
    of_old, of_new = old.encode(b"7", PLACE), new.encode(b"7", PLACE)
    assert (new.key_id(of_old[:64]), new.key_id(of_new[:64])) == ("old", "new")
    assert new.current_key_id == "new"
    assert new.knows("old")
    assert not new.knows("other")
    assert new.decode(of_old, PLACE) == b"7"
    with pytest.raises(PayloadKeyError, match="'new', which is not there; there are old"):
        old.decode(of_new, PLACE)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ([], "at least one"),
        ([("k", b"short")], "5 bytes"),
        ([("k", "k" * 32)], "a str"),
        ([("k", KEY), ("k", KEY)], "two keys"),
        ([("", KEY)], "the id of a key"),
        ([("a b", KEY)], "the id of a key"),
        ([("k" * 33, KEY)], "the id of a key"),
        ([(1, KEY)], "the id of a key"),
        ([("é", KEY)], "the id of a key"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(keys: list[tuple[str, bytes]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        AesGcmCodec(keys)


# Files of keys


def test_a_file_of_keys(tmp_path: Path) -> None:
    text = f"# the newest first\n\nnew = {in_base64(b'n' * 32)}\n  old={in_base64(b'o' * 16)}\n"
    file = key_file(tmp_path / "keys", text)
    assert read_key_file(file) == [("new", b"n" * 32), ("old", b"o" * 16)]
    codec = AesGcmCodec.from_file(str(file))
    assert codec.current_key_id == "new"
    assert codec.knows("old")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no key"),
        ("# nothing\n", "has no key"),
        ("new\n", "line 1 .*is not `ID = KEY`"),
        ("\nnew = abc\n", "line 2 .*is not base64"),
        ("new = AAAA\n", "has 3 bytes"),
        (f"a+b = {in_base64(KEY)}\n", "the id of a key"),
        (f"a = {in_base64(KEY)}\na = {in_base64(KEY)}\n", "line 2 .*repeats an id"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(KeyFileError, match=says) as refused:
        AesGcmCodec.from_file(key_file(tmp_path / "keys", text))
    assert in_base64(KEY) not in str(refused.value), "an error tells no key"


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot read the file of keys"):
        AesGcmCodec.from_file(tmp_path / "keys")
    (tmp_path / "keys").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "keys").chmod(0o600)
    with pytest.raises(KeyFileError, match="cannot read the file of keys"):
        AesGcmCodec.from_file(tmp_path / "keys")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o660, 0o666])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = key_file(tmp_path / "keys", f"k = {in_base64(KEY)}\n", mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        read_key_file(file)
    for allowed in (0o600, 0o400, 0o640, 0o440):
        file.chmod(allowed)
        assert read_key_file(file) == [("k", KEY)]


def test_a_new_key_comes_first_and_the_file_is_for_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    add_new_key(file, "first")
    assert os.name != "posix" or file.stat().st_mode & 0o777 == 0o600
    encoded = AesGcmCodec.from_file(file).encode(b"7", PLACE)
    file.chmod(0o640)
    add_new_key(file, "second")
    assert os.name != "posix" or file.stat().st_mode & 0o777 == 0o640
    assert [key_id for key_id, _ in read_key_file(file)] == ["second", "first"]
    codec = AesGcmCodec.from_file(file)
    assert codec.current_key_id == "second"
    assert codec.decode(encoded, PLACE) == b"7"
    with pytest.raises(KeyFileError, match="has a key 'first' already"):
        add_new_key(file, "first")
    with pytest.raises(KeyFileError, match="the id of a key"):
        add_new_key(file, "a b")
    with pytest.raises(KeyFileError, match="cannot write"):
        add_new_key(tmp_path / "nowhere" / "keys", "first")
    assert [one.name for one in tmp_path.iterdir()] == ["keys"]


def test_the_variable_names_the_file_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = new_database(tmp_path / "workflows.db")
    keys = tmp_path / "keys"
    monkeypatch.setenv("DURABLE_WORKFLOW_KEY_FILE", str(keys))
    for opens in (open_store, open_reader):
        with pytest.raises(KeyFileError, match="cannot read"):
            opens(file)
    add_new_key(keys, "first")
    with open_reader(file) as reader:
        assert reader.encoding.has_codec  # type: ignore[attr-defined]
    monkeypatch.setenv("DURABLE_WORKFLOW_KEY_FILE", "")
    with open_reader(file) as reader:
        assert not reader.encoding.has_codec  # type: ignore[attr-defined]
