"""What every book promises, run over all of them."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterstream_services.clients import book as bounds
from meterstream_services.clients import book_sql
from meterstream_services.clients.book import (
    CONTENT_BYTES_MAX,
    NAME_BYTES_MAX,
    Book,
    BookFull,
    BookUnavailable,
    Content,
    EntryTooLarge,
    MemoryBook,
)
from meterstream_services.clients.book_sql import open_book

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from meterstream_aggregator.store.address import StoreAddress

HOSTILE = [
    "../x",
    "a'; DROP TABLE book_entry;--",
    "a/b",
    "ünïcödé",
    "🛰",
    "%",
    "_",
    "a\0b",
    "\ud800",
]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Book]]:
    """Opens the same book again and again, in each implementation."""
    memory = MemoryBook()
    opened: list[Book] = []
    address: StoreAddress = tmp_path / "clients.sqlite3"
    if request.param == "postgres":
        address = request.getfixturevalue("postgres_address")

    def opening() -> Book:
        made = memory if request.param == "memory" else open_book(address)
        opened.append(made)
        return made

    yield opening
    for each in opened:
        each.close()


@pytest.fixture
def book(open_one: Callable[[], Book]) -> Book:
    """Each implementation, empty."""
    return open_one()


def put(book: Book, name: str, content: Content, *, owner: str = "o", kind: str = "k") -> None:
    """Keep an entry whatever was there."""
    book.change(owner, kind, name, lambda _: content)


def test_an_entry_is_kept_whole_and_goes(open_one: Callable[[], Book]) -> None:
    """What was kept is read by whoever opens the book; None lets it go; deleting twice is fine."""
    content: Content = {"a": [1, {"b": None}], "price": "0.10", "ü": "🛰\0\ud800", "yes": True}

    assert open_one().change("o", "k", "n", lambda before: None if before else content) == content
    assert open_one().get("o", "k", "n") == content
    for _ in range(2):
        assert open_one().change("o", "k", "n", lambda _: None) is None
    assert open_one().get("o", "k", "n") is None


def test_a_change_sees_what_was_kept(book: Book) -> None:
    """The change is given a copy of the entry: altering it alters nothing by itself."""
    put(book, "n", {"count": 1, "list": []})

    def spoil(before: Content | None) -> Content | None:
        assert before == {"count": 1, "list": []}
        before["list"].append("spoilt")
        return {"count": 2, "list": []}

    book.change("o", "k", "n", spoil)
    found = book.get("o", "k", "n")
    assert found == {"count": 2, "list": []}
    found["count"] = 3
    assert book.get("o", "k", "n") == {"count": 2, "list": []}


def test_what_a_change_raises_leaves_nothing(book: Book) -> None:
    """The error comes through, the entry stays, and the book goes on."""
    put(book, "n", {"count": 1})

    def fail(_: Content | None) -> Content:
        raise LookupError("no")

    for name in ("n", "new"):
        with pytest.raises(LookupError, match="no"):
            book.change("o", "k", name, fail)

    assert book.all("o", "k") == [("o", "n", {"count": 1})]
    put(book, "n", {"count": 2})
    assert book.get("o", "k", "n") == {"count": 2}


def test_owners_and_kinds_are_apart(book: Book) -> None:
    """A name of one owner and kind says nothing about another's."""
    put(book, "n", {"of": "o"})
    put(book, "n", {"of": "p"}, owner="p")
    put(book, "n", {"of": "l"}, kind="l")

    book.change("p", "k", "n", lambda _: None)

    assert book.get("o", "k", "n") == {"of": "o"}
    assert book.get("p", "k", "n") is None
    assert book.all("p", "k") == []
    assert book.all(None, "k") == [("o", "n", {"of": "o"})]
    assert book.all(None, "l") == [("o", "n", {"of": "l"})]


def test_pages_join_to_the_whole(book: Book) -> None:
    """By name in the order of code points, one page after the other, nothing twice."""
    names = sorted([f"{n:02}" for n in range(9)] + ["A", "a", "B", "é", "z", "🛰", "Z_", "Z-"])
    for name in reversed(names):
        put(book, name, {"name": name})

    found: list[str] = []
    while page := book.all("o", "k", after=found[-1] if found else "", limit=4):
        assert len(page) <= 4
        found += (name for _, name, _ in page)

    assert found == names


def test_a_page_of_all_owners_never_divides_a_name(book: Book) -> None:
    """Who pages by name over several owners meets each entry once."""
    for name in ("a", "b", "c"):
        for owner in ("o", "p", "q"):
            put(book, name, {}, owner=owner)

    first = book.all(None, "k", limit=4)
    second = book.all(None, "k", after=first[-1][1], limit=4)

    assert [(name, owner) for owner, name, _ in first] == [
        (name, owner) for name in "ab" for owner in "opq"
    ]
    assert [(name, owner) for owner, name, _ in second] == [("c", owner) for owner in "opq"]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_text_is_a_name(book: Book, name: str) -> None:
    """Quotes, wildcards, NUL and lone surrogates are letters like others."""
    put(book, name, {"name": name})
    put(book, "other", {})

    assert book.get("o", "k", name) == {"name": name}
    assert ("o", name, {"name": name}) in book.all("o", "k")
    book.change("o", "k", name, lambda _: None)
    assert book.all("o", "k") == [("o", "other", {})]


def test_what_is_too_large_is_refused(book: Book) -> None:
    """A name or a content of one byte too much is refused, and what was there stays."""
    put(book, "n" * NAME_BYTES_MAX, {"x": "y" * (CONTENT_BYTES_MAX - 8)})

    for name, content in (
        ("n" * (NAME_BYTES_MAX + 1), {}),
        ("é" * (NAME_BYTES_MAX // 2 + 1), {}),
        ("n" * NAME_BYTES_MAX, {"x": "y" * (CONTENT_BYTES_MAX - 7)}),
    ):
        with pytest.raises(EntryTooLarge):
            put(book, name, content)
    assert [len(content["x"]) for _, _, content in book.all("o", "k")] == [CONTENT_BYTES_MAX - 8]


def test_an_owner_keeps_so_many_and_no_more(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused; changing what is there, other kinds and owners go on."""
    for module in (bounds, book_sql):
        monkeypatch.setattr(module, "ENTRIES_MAX", 3)
    for name in "abc":
        put(book, name, {})

    with pytest.raises(BookFull):
        put(book, "d", {})
    put(book, "a", {"changed": True})
    put(book, "d", {}, kind="other")
    put(book, "d", {}, owner="other")
    book.change("o", "k", "b", lambda _: None)
    put(book, "d", {})

    assert [name for _, name, _ in book.all("o", "k")] == ["a", "c", "d"]


def test_threads_change_one_after_the_other(open_one: Callable[[], Book]) -> None:
    """No change is lost, whether threads share an opened book or have their own."""
    shared = open_one()

    def work(book: Book) -> None:
        for _ in range(20):
            book.change("o", "k", "n", _one_more)

    with ThreadPoolExecutor() as threads:
        list(threads.map(work, (shared, shared, open_one())))

    assert shared.get("o", "k", "n") == {"count": 60}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_processes_change_one_after_the_other(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    """Two processes that begin with no tables at all make them once and lose no change."""
    address: StoreAddress = tmp_path / "clients.sqlite3"
    if kind == "postgres":
        address = request.getfixturevalue("postgres_address")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_count, args=(address,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0]
    book = open_book(address)
    assert book.get("o", "k", "n") == {"count": 50}
    book.close()


def test_a_book_that_cannot_be_had_says_so(tmp_path: Path) -> None:
    """A place that is no file, and a file of somebody else, are unavailable, not an empty book."""
    (tmp_path / "text").write_text("no database at all, only some words that somebody wrote\n" * 9)

    for path in (tmp_path / "missing" / "book", tmp_path, tmp_path / "text"):
        book = open_book(path)
        with pytest.raises(BookUnavailable):
            book.get("o", "k", "n")
        with pytest.raises(BookUnavailable):
            put(book, "n", {})
        book.close()


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from("op"),
            st.text(st.characters(), max_size=3),
            st.none() | st.integers(0, 9),
        ),
        max_size=12,
    )
)
def test_any_steps_leave_what_a_dict_has(
    open_one: Callable[[], Book], steps: list[tuple[str, str, int | None]]
) -> None:
    """Any changes of any names leave the same entries as the same changes of a dict."""
    book, expected = open_one(), dict[tuple[str, str], Content]()
    for owner, name, _ in book.all(None, "k"):
        book.change(owner, "k", name, lambda _: None)

    for owner, name, value in steps:
        content = None if value is None else {"value": value}
        book.change(owner, "k", name, lambda _, made=content: made)  # type: ignore[misc]  # mypy infers no lambda with a default
        if content is None:
            expected.pop((owner, name), None)
        else:
            expected[owner, name] = content

    assert {(owner, name): content for owner, name, content in book.all(None, "k")} == {
        place: content for place, content in expected.items() if place[1]
    }


def _one_more(before: Content | None) -> Content:
    return {"count": (before or {"count": 0})["count"] + 1}


def _count(address: StoreAddress) -> None:
    book = open_book(address)
    for _ in range(25):
        book.change("o", "k", "n", _one_more)
    book.close()
