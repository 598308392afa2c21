"""The default meter of a process: made at first use, replaced by configuring, safe in a fork."""

from __future__ import annotations

import os
import threading
from inspect import signature
from typing import TYPE_CHECKING, Any, get_args

import pytest

import meterstream
from meterstream import Meter, SettingsError, default
from meterstream.boundaries import Boundaries
from meterstream.charging import Call
from meterstream.conveniences import Conveniences
from meterstream.memory import MemoryTransport
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    """No default meter before and after."""
    default._held.clear()
    yield
    if default._held:
        meterstream.close(0)
        default._held.clear()


def configured(**settings: Any) -> MemoryTransport:  # noqa: ANN401 - as many types as settings
    """The transport of a new default meter."""
    transport = MemoryTransport()
    meterstream.configure(transport=transport, **settings)
    return transport


def test_every_function_uses_the_default_meter() -> None:
    """Whatever a meter can, the package can."""
    transport = configured(strict=True)

    @meterstream.metered("metered", tenant="t")
    def work() -> None: ...

    hot = meterstream.counter("counter", tenant="t")
    with meterstream.context(tenant="t"), meterstream.timer("timer"), meterstream.session("s"):
        assert meterstream.record("call")
        assert meterstream.record("call", coalesce=1)
        work()
        hot.add()
    assert list(meterstream.stream("stream", [1], tenant="t", tokens=lambda n: n)) == [1]

    assert meterstream.flush(5)
    assert meterstream.status().acknowledged == len(arrived(transport)) == 8
    assert meterstream.close()
    assert meterstream.status().closed
    assert meterstream.default_meter() is meterstream.default_meter()


def test_every_function_takes_what_the_method_takes() -> None:
    """By the same names, with the same defaults."""
    methods = {
        name
        for name, member in vars(Meter).items()
        | vars(Boundaries).items()
        | vars(Conveniences).items()
        if callable(member) and not name.startswith("_")
    } - {"current", "after_fork", "at_exit"}

    assert {"flush", "void", "session_end", "record", "stream"} <= methods <= {*meterstream.__all__}
    for name in methods:
        ours, theirs = signature(getattr(meterstream, name)), signature(getattr(Meter, name))
        named = [each for each in theirs.parameters.values() if each.name != "self"]
        assert list(ours.parameters.values()) == named, name
        assert ours.return_annotation == theirs.return_annotation, name


def test_what_takes_back_and_what_bounds_sessions_goes_to_the_default_meter() -> None:
    """And a flush as far as it is told."""
    transport = configured(strict=True)

    meterstream.void("call", tenant="t", key="k", time=1)
    meterstream.session_start("s", tenant="t", session="1")
    meterstream.session_heartbeat("s", tenant="t", session="1")
    meterstream.session_end("s", tenant="t", session="1")

    assert meterstream.flush(5, to="log")
    assert [event.kind.name for event in arrived(transport)] == [
        "VOID",
        "SESSION_START",
        "SESSION_HEARTBEAT",
        "SESSION_END",
    ]
    assert meterstream.coalesced() == (0, 0)
    with pytest.raises(SettingsError, match="has no disk"):
        meterstream.flush(5, to="disk")


def test_what_annotations_need_is_in_the_package() -> None:
    """The very things that the modules have."""
    assert meterstream.Call is Call
    assert isinstance(meterstream.timer("work"), meterstream.Timer)
    assert isinstance(meterstream.counter("work", tenant="t"), meterstream.Counter)
    assert "spool" in get_args(meterstream.Durability)
    assert "block" in get_args(meterstream.Overflow)


def test_configuring_again_closes_the_former() -> None:
    """What it took is delivered, and what was decorated before goes to the new one."""
    first = configured()

    @meterstream.metered("metered", tenant="t")
    def work() -> None: ...

    hot = meterstream.counter("counter", tenant="t", coalesce=60)
    work()
    hot.add()
    former = meterstream.default_meter()
    second = configured()
    work()
    hot.add()

    assert former.status().closed
    assert len(arrived(first)) == 2
    assert meterstream.flush(5)
    assert len(arrived(second)) == 1 + 1


def test_settings_that_cannot_be_used_keep_the_former() -> None:
    """They are told to whoever configures."""
    configured()
    former = meterstream.default_meter()
    wrong: Any = "nothing"

    with pytest.raises(SettingsError):
        meterstream.configure(overflow=wrong)

    assert meterstream.default_meter() is former
    assert not former.status().closed


def test_it_is_made_at_first_use_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address events wait."""
    monkeypatch.delenv("METERSTREAM_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.delenv("METERSTREAM_DATA", raising=False)

    assert not default._held
    assert meterstream.record("call", tenant="t")

    assert meterstream.status().buffered == 1


def test_an_environment_that_cannot_be_used_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events wait, and the status says why."""
    monkeypatch.setenv("METERSTREAM_DURABILITY", "eternal")

    assert meterstream.record("call", tenant="t")
    assert not meterstream.flush(0.2)

    assert "durability: 'eternal'" in str(meterstream.status().last_error)


def test_many_threads_at_once_make_one() -> None:
    """The others are given up."""
    barrier, made = threading.Barrier(8), list[Meter]()

    def work() -> None:
        barrier.wait()
        made.append(meterstream.default_meter())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 8
    assert len(set(map(id, made))) == 1


def test_the_child_of_a_fork_has_its_own_incarnation() -> None:
    """Of the same default meter."""
    transport = configured()
    meterstream.record("call", tenant="t")
    assert meterstream.flush(5)
    producer = meterstream.default_meter().producer

    child = os.fork()
    if not child:
        code = 1
        try:
            meterstream.record("call", tenant="t")
            told = meterstream.flush(5) and meterstream.default_meter().producer != producer
            code = 0 if told and len(arrived(transport)) == 2 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(arrived(transport)) == 1


def test_modules_of_the_same_names_are_imported_as_ever() -> None:
    """Though the package's functions hide them as attributes."""
    from meterstream.context import Context  # noqa: PLC0415 - the subject
    from meterstream.session import Session  # noqa: PLC0415 - the subject
    from meterstream.status import Status  # noqa: PLC0415 - the subject

    assert (Session, Status) == (meterstream.Session, meterstream.Status)
    assert isinstance(meterstream.context(tenant="t"), Context)
