"""Which metrics and labels a PromQL expression names. Enough of the language for our own files."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_STRING: Final = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'")
_GROUPING: Final = re.compile(
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", re.IGNORECASE
)
_RANGE: Final = re.compile(r"\[[^\]]*\]|\boffset\s+\S+")
_SELECTOR: Final = re.compile(r"(?<![\w.])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(?!\s*[\w(])")
_MATCHER: Final = re.compile(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)")
_WORDS: Final = frozenset({"and", "or", "unless", "bool", "offset", "by", "on"})


class Named(NamedTuple):
    """What an expression names: metrics with the labels matched on each, and labels grouped by."""

    matched: list[tuple[str, frozenset[str]]]
    grouped: frozenset[str]

    @property
    def metrics(self) -> set[str]:
        """All names of metrics."""
        return {name for name, _ in self.matched}


def named(expression: str) -> Named:
    """Read an expression. Labels in quotes, subqueries' steps and numbers are left out."""
    text = _RANGE.sub(" ", _STRING.sub('""', expression))
    grouped = {
        label.strip()
        for labels in _GROUPING.findall(text)
        for label in labels.split(",")
        if label.strip()
    }
    text = _GROUPING.sub(" ", text)
    matched = [
        (name, frozenset(_MATCHER.findall(labels)))
        for name, labels in _SELECTOR.findall(text)
        if name.lower() not in _WORDS
    ]
    return Named(matched, frozenset(grouped))


def faults(
    expression: str, known: dict[str, frozenset[str]], everywhere: frozenset[str]
) -> list[str]:
    """What the expression names and nobody serves: ``known`` are the labels of each series.

    ``everywhere`` are labels that every series has, given by whoever scrapes.
    """
    found = named(expression)
    if not found.matched:
        return [f"no metric in {expression!r}"]
    wrong = [f"{name} is no metric" for name in found.metrics - known.keys()]
    for name, labels in found.matched:
        unknown = labels - known.get(name, labels) - everywhere
        wrong += [f"{name} has no label {label}" for label in sorted(unknown)]
    labels_of_all = frozenset().union(*(known.get(name, frozenset()) for name in found.metrics))
    unknown = found.grouped - labels_of_all - everywhere
    return wrong + [f"nothing has a label {label}" for label in sorted(unknown)]
