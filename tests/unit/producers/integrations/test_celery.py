"""The signals of Celery: tasks that a real worker runs in this process, and eager ones."""

# ruff: noqa: ANN401 - Celery publishes no types

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Ignore, Reject

from meterstream.context import AMBIENT
from meterstream.integrations.calls import current_charge
from meterstream.integrations.celery import HEADER, Run, connect, propagated_tenant
from tests.unit.producers.integrations.told_web import Told, attributes_of, told
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meterstream import Meter
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter


MINE: list[Meter] = []
"""The meter that tasks record with: the running test's."""


@pytest.fixture
def meter(make_meter: MakeMeter) -> Iterator[Meter]:
    """A meter over ``transport``."""
    MINE.append(make_meter())
    yield MINE[-1]
    MINE.clear()


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    """An application with a worker, which takes four seconds to stop."""
    made, root = app_of(), logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    with start_worker(made, pool="solo", perform_ping_check=False, shutdown_timeout=20):
        # The worker sets up logging for its process, which is that of all tests here.
        root.setLevel(level)
        root.handlers[:] = handlers
        yield made


def app_of() -> Any:
    """An application with a task of each kind, over a broker in memory."""
    app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(worker_hijack_root_logger=False, task_store_eager_result=False)
    app.conf.update(broker_transport_options={"polling_interval": 0.01})

    def adds(a: int, b: int) -> int:
        MINE[0].record("inside")
        return a + b

    def charged() -> None:
        charge = current_charge()
        assert charge is not None
        charge.quantity = 12
        charge.attributes["model"] = "small"

    def fails() -> None:
        raise RuntimeError("no luck")

    def tries(self: Any) -> int:
        if self.request.retries:
            return 2
        raise self.retry(countdown=0)

    def ignores() -> None:
        raise Ignore

    def rejects() -> None:
        raise Reject("no", requeue=False)

    def sends() -> None:
        app.tasks["adds"].delay(3, 4)

    for function in (adds, charged, fails, ignores, rejects, sends):
        register(app, function)
    register(app, tries, bind=True, max_retries=1)
    return app


def register(app: Any, function: Callable[..., Any], **options: Any) -> None:
    """Make a function a task of this application alone."""
    app.task(name=function.__name__, shared=False, **options)(function)


@contextmanager
def connected(app: Any, meter: Meter, **settings: Any) -> Iterator[None]:
    """Metered for the block."""
    connection = connect(app, meter, **settings)
    try:
        yield
    finally:
        connection.disconnect()


def run(app: Any, name: str, *args: Any, tenant: str | None = "acme", **options: Any) -> Any:
    """Send a task for a tenant and wait for its result."""
    headers = {} if tenant is None else {HEADER: tenant}
    return (
        app.tasks[name].apply_async(args, headers=headers, **options).get(timeout=20, interval=0.01)
    )


def test_a_task_in_a_worker_becomes_an_event_of_who_sent_it(
    app: Any, meter: Meter, transport: MemoryTransport
) -> None:
    """The tenant goes along with the task, to tasks that it sends, and into what they record."""
    with connected(app, meter):
        with meter.context(tenant="acme"):
            assert app.tasks["adds"].delay(1, 2).get(timeout=20, interval=0.01) == 3
            app.tasks["sends"].delay()
        app.tasks["adds"].apply_async((1, 2), headers={HEADER: "globex"}).get(
            timeout=20, interval=0.01
        )
        eventually(lambda: meter.status().recorded == 7)

    assert AMBIENT.get() is None
    events = told(meter, transport)
    runs = [event for event in events if event.type == "celery.task"]
    assert sorted((event.tenant, event.attributes["task"]) for event in runs) == [
        ("acme", "adds"),
        ("acme", "adds"),
        ("acme", "sends"),
        ("globex", "adds"),
    ]
    assert runs[0] == Told("celery.task", "acme", 1, {"task": "adds", "state": "success"})
    inside = sorted(event.tenant for event in events if event.type == "inside")
    assert inside == ["acme", "acme", "globex"]


def outcomes(app: Any, meter: Meter, **settings: Any) -> None:
    """Tasks that end in each way, in a worker."""
    with connected(app, meter, **settings):
        with pytest.raises(RuntimeError, match="no luck"):
            run(app, "fails")
        assert run(app, "tries") == 2
        for name in ("ignores", "rejects"):
            app.tasks[name].apply_async(headers={HEADER: "acme"})
        run(app, "adds", 1, 2, tenant=None)


def test_failures_and_retries_are_charged_by_choice(
    app: Any, meter: Meter, transport: MemoryTransport
) -> None:
    """By default only runs that came to their end; nobody's task is not metered."""
    outcomes(app, meter)

    assert [(found["task"], found["state"]) for found in attributes_of(meter, transport)] == [
        ("tries", "success"),
        ("ignores", "ignored"),
    ]
    # What nobody's task recorded inside had no tenant.
    assert meter.status().dropped == {"invalid": 1}


def test_failures_and_retries_are_told_apart(
    app: Any, meter: Meter, transport: MemoryTransport
) -> None:
    """Each by its state."""
    outcomes(app, meter, charge_failures=True, charge_retries=True)

    assert [(found["task"], found["state"]) for found in attributes_of(meter, transport)] == [
        ("fails", "failure"),
        ("tries", "retry"),
        ("tries", "success"),
        ("ignores", "ignored"),
        ("rejects", "rejected"),
    ]


def eager(app: Any, name: str, *args: Any, **options: Any) -> Any:
    """Run a task here and now."""
    return app.tasks[name].apply(args, **options).get()


def test_an_eager_task_is_of_the_tenant_around_it(
    app: Any, meter: Meter, transport: MemoryTransport
) -> None:
    """Nothing is sent then; a header of the call wins."""
    with connected(app, meter), meter.context(tenant="acme"):
        eager(app, "adds", 1, 2)
        eager(app, "adds", 1, 2, headers={HEADER: "globex"})

    events = told(meter, transport)
    assert [event.tenant for event in events if event.type == "celery.task"] == ["acme", "globex"]
    assert [event.tenant for event in events if event.type == "inside"] == ["acme", "globex"]


def test_the_tenant_may_come_from_arguments(meter: Meter, transport: MemoryTransport) -> None:
    """A function of the run, which may fall back to the tenant that was sent."""

    def greets(customer: str = "") -> None: ...

    app = app_of()
    register(app, greets)

    def tenant(of: Run) -> str | None:
        return of.kwargs.get("customer") or propagated_tenant(of)

    with connected(app, meter, tenant=tenant, attributes=lambda of: {"args": str(len(of.args))}):
        eager(app, "adds", 1, 2, headers={HEADER: "acme"})
        app.tasks["greets"].apply(kwargs={"customer": "globex"})

    runs = [event for event in told(meter, transport) if event.type == "celery.task"]
    assert [(event.tenant, event.attributes["args"]) for event in runs] == [
        ("acme", "2"),
        ("globex", "0"),
    ]


def test_a_task_says_what_it_is_charged(meter: Meter, transport: MemoryTransport) -> None:
    """Or how long it took."""

    def sleeps() -> None:
        time.sleep(0.02)

    app = app_of()
    register(app, sleeps)

    with connected(app, meter, quantity="ms"):
        eager(app, "charged", headers={HEADER: "acme"})
        eager(app, "sleeps", headers={HEADER: "acme"})

    first, second = told(meter, transport)
    assert (first.quantity, first.attributes["model"]) == (12, "small")
    assert second.quantity >= 19
    assert current_charge() is None


def test_tasks_of_other_applications_are_theirs(
    app: Any, meter: Meter, transport: MemoryTransport
) -> None:
    """With an application only its own tasks; with None all of them."""
    mine, other = app, app_of()
    with connected(mine, meter):
        eager(
            other,
            "charged_not" if "charged_not" in other.tasks else "ignores",
            headers={HEADER: "a"},
        )
    assert told(meter, transport) == []

    with connected(None, meter):
        eager(mine, "ignores", headers={HEADER: "a"})
        eager(other, "ignores", headers={HEADER: "a"})
    assert len(told(meter, transport)) == 2


@pytest.mark.parametrize("place", ["tenant", "attributes"])
def test_a_function_that_raises_is_counted_and_harms_nobody(
    make_meter: MakeMeter, transport: MemoryTransport, place: str
) -> None:
    """Once per run, in strict too."""
    meter = make_meter(strict=True)

    def quiet() -> int:
        return 7

    app = app_of()
    register(app, quiet)

    def raises(of: Run) -> None:
        raise LookupError("no database")

    with connected(app, meter, **{place: raises}):
        assert eager(app, "quiet", headers={HEADER: "acme"}) == 7

    assert told(meter, transport) == []
    assert meter.status().dropped == {"invalid": 1}


def test_the_end_of_a_workers_process_closes_the_meter(
    app: Any, meter: Meter, transport: MemoryTransport
) -> None:
    """What it recorded is sent before: such a process runs no exit handlers."""
    from celery.signals import worker_process_shutdown  # noqa: PLC0415 - for this test alone

    with connected(app, meter):
        eager(app, "ignores", headers={HEADER: "acme"})
        worker_process_shutdown.send(sender=None, pid=1, exitcode=0)

    assert meter.status().closed
    assert meter.status().acknowledged == 1
