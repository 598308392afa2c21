"""The text of a key: ``mk_live_<8 letters of its id>_<secret>``.

The secret is 32 random bytes as 43 letters of base 62. Its like cannot be guessed, so a plain
SHA-256 of the whole text is enough to keep: there is no dictionary to try, and no need for a slow
hash on each request. The id is public; logs and lists show it.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from typing import Final, NamedTuple

PREFIX: Final = "mk_live_"
ID_LETTERS: Final = 8
SECRET_BYTES: Final = 32
SECRET_LETTERS: Final = 43
"""62**43 is more than 2**256."""
TEXT_LETTERS: Final = len(PREFIX) + ID_LETTERS + 1 + SECRET_LETTERS

_LETTERS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_END: Final = len(PREFIX) + ID_LETTERS


class NewKey(NamedTuple):
    """A key that was just made: ``text`` is shown once and kept nowhere."""

    id: str
    text: str


def new_key() -> NewKey:
    """A key at random."""
    name = "".join(secrets.choice(_LETTERS) for _ in range(ID_LETTERS))
    number = int.from_bytes(secrets.token_bytes(SECRET_BYTES), "big")
    letters: list[str] = []
    for _ in range(SECRET_LETTERS):
        number, letter = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[letter])
    return NewKey(name, f"{PREFIX}{name}_{''.join(letters)}")


def id_of(text: str) -> str | None:
    """The id in a text that has a key's form; None for any other text."""
    if len(text) != TEXT_LETTERS or not text.startswith(PREFIX) or text[_ID_END] != "_":
        return None
    return text[len(PREFIX) : _ID_END]


def hash_of(text: str) -> bytes:
    """What is kept of a key: SHA-256 over all of it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
