"""Objects that a careless or malicious host may pass, and that do harm when they are trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import NoReturn


class Raising:
    """Whatever is asked of it, it raises."""

    def _raise(self, *_: object) -> NoReturn:
        raise RuntimeError("hostile")

    __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __str__ = __repr__ = _raise
    __int__ = __index__ = __float__ = __lt__ = __le__ = __gt__ = __ge__ = _raise
    __getattribute__ = __getitem__ = __contains__ = __format__ = __bytes__ = _raise


class Impostor:
    """Claims to equal everything and to be a str."""

    __class__ = str  # type: ignore[assignment]  # a lie is the point

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash((1, "api.request", "acme"))


class _Text(str):
    __slots__ = ()

    def _raise(self, *_: object, **__: object) -> NoReturn:
        raise RuntimeError("hostile")

    __eq__ = __hash__ = __len__ = __iter__ = __str__ = __repr__ = __format__ = _raise
    __getitem__ = __contains__ = encode = isascii = isprintable = strip = _raise


def hostile_text(text: str) -> str:
    """A subclass of str whose methods raise."""
    return _Text(text)


class Endless(Mapping[str, str]):
    """A mapping without an end."""

    def __getitem__(self, key: str) -> str:
        return "v"

    def __iter__(self) -> Iterator[str]:
        return map(str, count())

    def __len__(self) -> int:
        return 1


class Mutating(dict[str, str]):
    """A dictionary that grows while it is read."""

    def __iter__(self) -> Iterator[str]:
        for number in range(40):
            self[str(number)] = "v"
            yield str(number)

    def items(self) -> NoReturn:
        raise RuntimeError("dictionary changed size during iteration")
