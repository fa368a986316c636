"""`AesGcmCodec`: encrypts the values in a database with AES-GCM. Needs the extra `encryption`.

Each value is encrypted with a random nonce of 96 bits, and bound to its place in the database. A
value that somebody changed, or copied to another row, is refused. What is kept of a value is: one
byte for the format, one for the length of the key's id, the id, the nonce, and what AES-GCM gives.
"""

from __future__ import annotations

import binascii
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_workflow_sqlite.errors import KeyFileError, PayloadDecodeError, PayloadKeyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_FILE_VARIABLE: Final = "DURABLE_WORKFLOW_KEY_FILE"
"""The variable that names the file of keys."""

KEY_BYTES: Final = 32
"""How long a new key is: AES-256."""

_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_LINE: Final = re.compile(r"([^\s=]+)\s*=\s*(\S+)")


class AesGcmCodec:
    """A `PayloadCodec` that encrypts with AES-GCM.

    keys: pairs of an id and a key of 16, 24 or 32 bytes. The first one encrypts; each decrypts what
        it has encrypted. An id has at most 32 letters, digits, dots, underscores and hyphens. It is
        public: it stands beside each value.

    One key should encrypt at most 4 billion values, because the nonces are random.

    Raises ValueError or TypeError for other keys, and ModuleNotFoundError without the extra.
    """

    def __init__(self, keys: Iterable[tuple[str, bytes]]) -> None:
        self._keys: dict[str, AESGCM] = {}
        for key_id, key in keys:
            if key_id in self._keys:
                raise ValueError(f"two keys have the id {key_id!r}")
            self._keys[_checked_id(key_id)] = _cipher(key_id, key)
        if not self._keys:
            raise ValueError("keys must have at least one key")
        self._current = next(iter(self._keys))
        name = self._current.encode()
        self._header = _FORMAT + bytes([len(name)]) + name
        self._encrypt: Callable[[bytes, bytes, bytes], bytes] = self._keys[self._current].encrypt

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> AesGcmCodec:
        """The codec of a file of keys; see `read_key_file`. Raises KeyFileError."""
        keys = read_key_file(path)
        try:
            return cls(keys)
        except ModuleNotFoundError as error:
            raise KeyFileError(str(error)) from error

    def encode(self, data: bytes, place: str) -> bytes:
        """Encrypt a value for its place."""
        nonce = os.urandom(_NONCE_BYTES)
        header = self._header
        return header + nonce + self._encrypt(nonce, data, header + place.encode())

    def decode(self, data: bytes, place: str) -> bytes:
        """Decrypt a value of this place.

        Raises PayloadKeyError if the key is not there, and PayloadDecodeError for everything else
        that AES-GCM refuses.
        """
        key_id, begins_at = _header_of(data)
        key = self._keys.get(key_id)
        if key is None:
            known = ", ".join(self._keys)
            raise PayloadKeyError(
                f"it was encrypted with the key {key_id!r}, which is not there; there are {known}"
            )
        ends_at = begins_at + _NONCE_BYTES
        associated = data[:begins_at] + place.encode()
        try:
            return key.decrypt(data[begins_at:ends_at], data[ends_at:], associated)
        except Exception as error:
            raise PayloadDecodeError(
                f"it does not fit the key {key_id!r} or its place: somebody changed it, copied it"
                " from another place, or another key has this id"
            ) from error

    @property
    def current_key_id(self) -> str:
        """The id of the key that encrypts."""
        return self._current

    def key_id(self, data: bytes) -> str:
        """The id of the key that has encrypted a value. Raises PayloadDecodeError."""
        return _header_of(data)[0]

    def knows(self, key_id: str) -> bool:
        """Whether it has the key of this id."""
        return key_id in self._keys


def _header_of(data: bytes) -> tuple[str, int]:
    """The id of the key, and where the nonce begins."""
    end = 2 + data[1] if len(data) > 1 else 0
    if data[:1] != _FORMAT or len(data) < end:
        raise PayloadDecodeError("it was not encrypted by an AesGcmCodec of this version")
    try:
        return data[2:end].decode("ascii"), end
    except UnicodeDecodeError as error:
        raise PayloadDecodeError("the id of its key cannot be read") from error


def _checked_id(key_id: object) -> str:
    if not isinstance(key_id, str) or _ID.fullmatch(key_id) is None:
        raise ValueError(
            f"the id of a key must have 1 to 32 letters, digits, dots, underscores or hyphens, not"
            f" {key_id!r}"
        )
    return key_id


def _cipher(key_id: str, key: object) -> AESGCM:
    if not isinstance(key, bytes) or len(key) not in (16, 24, 32):
        what = f"{len(key)} bytes" if isinstance(key, bytes) else f"a {type(key).__name__}"
        raise ValueError(f"the key {key_id!r} must be 16, 24 or 32 bytes, not {what}")
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "cryptography is not installed; install the extra `encryption`:"
            " pip install 'durable-workflow-sqlite[encryption]'"
        ) from error
    return AESGCM(key)


# The file of keys


def read_key_file(path: str | os.PathLike[str]) -> list[tuple[str, bytes]]:
    """The keys of a file, the first one first.

    Each line is `ID = KEY`, the key in base64. Empty lines, and those that begin with #, count for
    nothing. On POSIX, nobody but its owner and its group may read the file.

    Raises KeyFileError.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"cannot read the file of keys {file}: {error}") from error
    if os.name == "posix" and mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise KeyFileError(
            f"others may read or write the file of keys {file}: run `chmod 600 {file}` (or 640)"
        )
    keys: list[tuple[str, bytes]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise KeyFileError(f"line {number} of the file of keys {file} is not `ID = KEY`")
        try:
            key = binascii.a2b_base64(found[2], strict_mode=True)
        except binascii.Error:
            raise KeyFileError(
                f"the key in line {number} of the file of keys {file} is not base64"
            ) from None
        if len(key) not in (16, 24, 32):
            raise KeyFileError(
                f"the key in line {number} of the file of keys {file} has {len(key)} bytes; a key"
                " has 16, 24 or 32"
            )
        if found[1] in dict(keys):
            raise KeyFileError(f"line {number} of the file of keys {file} repeats an id")
        try:
            keys.append((_checked_id(found[1]), key))
        except ValueError as error:
            raise KeyFileError(f"line {number} of the file of keys {file}: {error}") from error
    if not keys:
        raise KeyFileError(f"the file of keys {file} has no key")
    return keys


def add_new_key(path: str | os.PathLike[str], key_id: str) -> None:
    """Put a new random key before the others of a file, or into a new file that only you can read.

    It replaces the file at once, so a program that reads it sees all of it. Raises KeyFileError.
    """
    file = Path(os.path.realpath(path))
    try:
        _checked_id(key_id)
    except ValueError as error:
        raise KeyFileError(str(error)) from error
    before, mode = "", 0o600
    if file.exists():
        if key_id in dict(read_key_file(file)):
            raise KeyFileError(f"the file of keys {file} has a key {key_id!r} already")
        before = file.read_text(encoding="utf-8")
        mode = stat.S_IMODE(file.stat().st_mode)
    key = binascii.b2a_base64(secrets.token_bytes(KEY_BYTES), newline=False).decode()
    new = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        opened = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(opened, "w", encoding="utf-8") as written:
                written.write(f"{key_id} = {key}\n{before}")
                written.flush()
                os.fsync(written.fileno())
            new.chmod(mode)
            new.replace(file)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise KeyFileError(f"cannot write the file of keys {file}: {error}") from error
