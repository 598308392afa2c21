"""Several catalogues as one: what each of them names, once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from meterstream_aggregator.catalogue_file import load_catalogue, parse_catalogue
from meterstream_aggregator.errors import CatalogueError

Document: TypeAlias = dict[str, Any]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def joined(texts: Mapping[str, str]) -> Document:
    """One document of several: metering begins with the last, events count from the first.

    Raises `CatalogueError` where names clash.
    """
    parts: dict[str, Document] = {name: yaml.safe_load(text) for name, text in texts.items()}
    begins = [part.get("metering_since", _EPOCH) for part in parts.values()]
    accepts = [
        part.get("accept_from", begin) for part, begin in zip(parts.values(), begins, strict=True)
    ]
    document: Document = {
        "metering_since": max(begins),
        "accept_from": min(accepts),
        "meters": [],
        "thresholds": [],
    }
    owners: dict[tuple[str, str], str] = {}
    for name, part in parts.items():
        add(part, name, document, owners)
    return document


def add(part: Document, name: str, document: Document, owners: dict[tuple[str, str], str]) -> None:
    """Put the entries of one catalogue to a document. Raises `CatalogueError` on a clash."""
    for kind in ("meters", "thresholds"):
        for entry in part.get(kind, []):
            owner = owners.setdefault((kind, entry["name"]), name)
            if owner != name:
                raise CatalogueError(
                    f"{owner} and {name} both have {kind} called {entry['name']!r}; rename one of "
                    "the two, or leave one out"
                )
            document[kind].append(entry)


def text_of(document: Document) -> str:
    """A document as YAML."""
    shown = {key: value for key, value in document.items() if value != []}
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=100)


def join_files(paths: Sequence[Path], into: Path) -> Path:
    """The one file, or ``into`` with the meters and thresholds of all.

    When metering begins is the first file's word: a store belongs to it, and others come later.
    Raises `CatalogueError`.
    """
    if len(paths) == 1:
        return paths[0]
    for path in paths:
        load_catalogue(path)  # Its mistakes are told with its own lines.
    texts = {str(path): path.read_text("utf-8") for path in paths}
    document = joined(texts)
    first: Document = yaml.safe_load(texts[str(paths[0])])
    for key in ("metering_since", "accept_from"):
        document.pop(key)
    document = {key: first[key] for key in ("metering_since", "accept_from") if key in first} | (
        document
    )
    text = text_of(document)
    parse_catalogue(text, source=" and ".join(texts))
    into.parent.mkdir(parents=True, exist_ok=True)
    partial = into.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(f"# Joined at a start, of {', '.join(texts)}.\n{text}", "utf-8")
    partial.replace(into)
    return into
