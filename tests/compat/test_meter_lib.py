"""The documented calls of meter-lib over memory."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from meterstream.compat import meter_lib, wiring
from meterstream.compat.meter_lib import post_ai_meter_usage, post_meter_usage
from meterstream.compat.meter_lib_customers import CUSTOMERS_MAX, AccountCustomers
from meterstream.compat.usage_api import HttpUsage, UsageRefused, UsageUnavailable
from meterstream.memory import MemoryTransport
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import EventKind
from tests.compat.documents import run, snippets
from tests.compat.guides import python_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.compat.conftest import Memory

WHO = ("acme", "dev-1", "page.processed.basic", "https://stream.example")
AT = 1_795_000_000_000


class Own:
    """Customers of a host's own: of every tenant but those in ``unknown``."""

    def __init__(self, *unknown: str) -> None:
        self.unknown = unknown

    def customer_of(self, tenant: str) -> str | None:
        """The tenant itself."""
        return None if tenant in self.unknown else tenant


@pytest.fixture(autouse=True)
def _customers() -> Iterator[None]:
    meter_lib.look_up_with(Own("stranger"))
    yield
    meter_lib.look_up_with()


def test_the_document_runs_as_it_stands(memory: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    """All four snippets, trailing commas included, and the answer that the last one prints."""
    namespace: dict[str, Any] = {}
    results: list[Any] = []

    for snippet in snippets("meter_lib"):
        run(snippet, namespace)
        results.append(namespace["result"])

    told = {(event.kind, event.type): event for event in memory.arrived()}
    page = told[EventKind.USAGE, "document.basic.page"]
    assert (page.tenant, page.subject, page.quantity) == ("tenant_123", "us-east-ing1", 24)
    rule = told[EventKind.USAGE, "rule.executed.small"]
    assert rule.quantity == 1
    assert rule.attributes == {"rule_id": "rule-abc123", "batch_id": "batch-999"}
    start = told[EventKind.SESSION_START, "chat.on.time_hours"]
    end = told[EventKind.SESSION_END, "chat.on.time_hours"]
    assert (start.time, end.time) == (1759791552000_000, 1779799552000_000)
    assert (start.session, start.subject) == (end.session, end.subject) == (None, "us-east-ing1")
    assert all(result["offsets"][0]["offset"] >= 0 for result in results)
    assert capsys.readouterr().out == f"Event accepted: {results[-1]}\n"


def test_the_answer_is_shaped_as_the_rest_proxy_has_it(memory: Memory) -> None:
    """Partition and offset are those of the event in the log."""
    answer = post_meter_usage(*WHO, "https://portal.example", "key", 5)

    assert answer is not None
    place = answer["offsets"][0]
    assert set(place) == {"partition", "offset", "error_code", "error"}
    assert len(memory.transport.log[place["partition"]]) > place["offset"]
    assert (answer["key_schema_id"], answer["value_schema_id"]) == (None, None)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((*WHO, "https://portal.example", "key", 5, AT, {"a": "b"}), {}),
        ((*WHO, 5, "https://portal.example", "key", AT, {"a": "b"}), {}),
        ((*WHO, 5), {"portal_url": None, "timestamp": AT, "metadata": {"a": "b"}}),
        ((*WHO, None, None, 5), {"timestamp": AT, "metadata": {"a": "b"}}),
        (WHO, {"total_usage": 5, "timestamp": AT, "metadata": {"a": "b"}}),
        ((*WHO[:3], (WHO[3],), (5,)), {"api_key": ("k",), "timestamp": AT, "metadata": {"a": "b"}}),
    ],
)
def test_both_orders_of_arguments_are_understood(
    memory: Memory, given: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """The document's order, the package's, names, and commas too many mean the same."""
    assert post_meter_usage(*given, **named) is not None

    [event] = memory.arrived()
    assert (event.tenant, event.subject, event.type) == WHO[:3]
    assert (event.quantity, event.time, event.attributes) == (5, AT * 1000, {"a": "b"})


@pytest.mark.parametrize(
    ("given", "named", "sentence"),
    [
        (WHO, {}, "missing its argument 'total_usage'"),
        (WHO[:2], {"total_usage": 1}, "missing its argument 'meter_id'"),
        ((*WHO, 5), {"total_usage": 5}, "got twice the argument 'total_usage'"),
        ((*WHO, 5), {"units": "GB"}, "does not know the argument 'units'"),
        ((*WHO, 5, None, None, None, None, None), {}, "takes 9 arguments, 10 were given"),
    ],
)
def test_a_wrong_call_is_a_type_error(
    memory: Memory, given: tuple[Any, ...], named: dict[str, Any], sentence: str
) -> None:
    """Arguments that no function of this name takes are told as Python tells them."""
    with pytest.raises(TypeError, match=sentence):
        post_meter_usage(*given, **named)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [(Decimal("1.5"), (15, 1)), (2.3, (23, 1)), (-3, (-3, 0)), ("0.1", (1, 1))],
)
def test_amounts_are_exact(memory: Memory, amount: Any, expected: tuple[int, int]) -> None:  # noqa: ANN401 - any amount
    """Decimals, their text and what a float shows are counted digit for digit."""
    assert post_meter_usage(*WHO, total_usage=amount) is not None

    [event] = memory.arrived()
    assert (event.quantity, event.scale) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"total_usage": "many"},
        {"total_usage": None},
        {"total_usage": float("nan")},
        {"total_usage": 1, "timestamp": "yesterday"},
        {"total_usage": 1, "timestamp": datetime(2026, 1, 1)},  # noqa: DTZ001 - wrong on purpose
        {"total_usage": 1, "metadata": {str(n): "" for n in range(100)}},
    ],
)
def test_wrong_values_are_none_and_counted(memory: Memory, wrong: dict[str, Any]) -> None:
    """Nothing is recorded, nothing raised, and the meter counts it as invalid."""
    assert post_meter_usage(*WHO, **wrong) is None

    assert memory.arrived() == []
    assert memory.meter.status().dropped["invalid"] == 1


def test_metadata_becomes_text(memory: Memory) -> None:
    """Values that are no text are written as text, as the package does."""
    post_meter_usage(*WHO, total_usage=1, metadata={"n": 7})  # type: ignore[dict-item]  # wrong on purpose

    assert memory.arrived()[0].attributes == {"n": "7"}


def test_a_session_id_joins_start_and_end(memory: Memory) -> None:
    """Both boundaries carry metadata["session_id"]."""
    chat = ("acme", "dev-1", "chat.query.time_secs", "url", None, None)
    post_ai_meter_usage(*chat, start_time=AT, metadata={"session_id": "s-1"})
    post_ai_meter_usage(*chat, end_time=AT + 90_000, metadata={"session_id": "s-1"})

    start, end = sorted(memory.arrived(), key=lambda event: event.time)
    assert (start.kind, end.kind) == (EventKind.SESSION_START, EventKind.SESSION_END)
    assert start.session == end.session == "s-1"
    assert end.time - start.time == 90_000_000


def test_both_times_are_one_session(memory: Memory) -> None:
    """A call with start and end is a session of its own, and answers with both places."""
    chat = ("acme", "dev-1", "chat.on.time_hours", "url")

    answer = post_ai_meter_usage(*chat, start_time=AT, end_time=datetime(2026, 11, 21, tzinfo=UTC))  # type: ignore[arg-type]  # of an older package

    assert answer is not None
    assert len(answer["offsets"]) == 2
    sessions = {event.session for event in memory.arrived()}
    assert len(sessions) == 1
    assert None not in sessions


@pytest.mark.parametrize("times", [{}, {"start_time": AT, "end_time": AT - 1}])
def test_no_session_is_none(memory: Memory, times: dict[str, Any]) -> None:
    """Neither time, or an end before the start: None, and counted."""
    assert post_ai_meter_usage("acme", "d", "chat.on.time_hours", "url", **times) is None

    assert memory.arrived() == []
    assert memory.meter.status().dropped["invalid"] == 1


def test_an_idempotency_key_counts_once(memory: Memory) -> None:
    """Calls with one metadata["idempotency_key"] are events of one key."""
    for _ in range(2):
        post_meter_usage(*WHO, total_usage=1, timestamp=AT, metadata={"idempotency_key": "k"})

    assert [event.key for event in memory.arrived()] == ["k", "k"]


def test_without_a_broker_the_answer_is_none(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call ends at its timeout; sessions likewise."""
    monkeypatch.setattr(meter_lib, "TIMEOUT_SECONDS", 0.05)
    memory.transport.available = False

    assert post_meter_usage(*WHO, total_usage=1) is None
    assert post_ai_meter_usage("acme", "d", "chat.on.time_hours", "url", start_time=AT) is None


def test_a_tenant_without_a_customer_is_skipped(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    """None, nothing is recorded, and one line of the log says why."""
    for _ in range(3):
        assert post_meter_usage("stranger", *WHO[1:], total_usage=1) is None

    assert memory.arrived() == []
    assert caplog.messages == ["tenant 'stranger' has no customer; the call is skipped"]


def test_a_lookup_that_takes_too_long_skips_the_call(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no time is left, nothing is recorded: None can be believed, and the call repeated."""
    monkeypatch.setattr(meter_lib, "TIMEOUT_SECONDS", 0.0)

    assert post_meter_usage(*WHO, total_usage=1) is None
    assert memory.arrived() == []


def test_whatever_a_lookup_raises_stays_here(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    """A host's own lookup that fails makes the answer None."""

    class Broken:
        def customer_of(self, tenant: str) -> str | None:
            raise KeyError("id")

    meter_lib.look_up_with(Broken())

    assert post_meter_usage(*WHO, total_usage=1) is None
    assert "KeyError" in caplog.text


def test_a_strict_meter_raises(memory: Memory) -> None:
    """Where the host asked for it, a wrong argument is an error."""
    meter = wiring.make_meter(transport=MemoryTransport(), strict=True)
    wiring.use(meter=meter)
    try:
        with pytest.raises(InvalidEvent, match="quantity"):
            post_meter_usage(*WHO, total_usage="many")
    finally:
        meter.close(0)


def test_the_customer_is_the_tenants_account(memory: Memory) -> None:
    """The account directory is asked once a minute and tenant, by the tenant's exact name."""
    now = [0.0]
    customers = AccountCustomers(now=lambda: now[0])
    path = "/v1/tenants/a%2Fb%20c/account"
    memory.usage.answers[path] = lambda asked: {"account": {"id": "account-7"}}

    assert [customers.customer_of("a/b c") for _ in range(3)] == ["account-7"] * 3
    assert len(memory.usage.asked) == 1
    now[0] = 61.0
    assert customers.customer_of("a/b c") == "account-7"
    assert len(memory.usage.asked) == 2


def test_a_tenant_of_no_account_has_no_customer(memory: Memory) -> None:
    """Where accounts are kept, a tenant must belong to one; it is asked for again soon."""
    now = [0.0]
    customers = AccountCustomers(now=lambda: now[0])
    memory.usage.answers["/v1/accounts"] = lambda asked: {"accounts": [{"id": "account-7"}]}

    assert customers.customer_of("acme") is None
    now[0] = 6.0
    memory.usage.answers["/v1/tenants/acme/account"] = lambda asked: {"account": {"id": "a"}}
    assert customers.customer_of("acme") == "a"


def test_without_accounts_a_tenant_is_its_own_customer(memory: Memory) -> None:
    """An empty directory, and no directory at all, leave nothing to look up."""
    memory.usage.answers["/v1/accounts"] = lambda asked: {"accounts": []}
    assert AccountCustomers().customer_of("acme") == "acme"

    wiring.use(usage=HttpUsage())
    assert AccountCustomers().customer_of("acme") == "acme"


@pytest.mark.parametrize("problem", [UsageUnavailable("away"), UsageRefused(503, "away")])
def test_a_directory_that_is_away_is_not_needed_for_known_tenants(
    memory: Memory, problem: Exception
) -> None:
    """What was known last holds; an unknown tenant has no customer then."""
    now = [0.0]
    customers = AccountCustomers(now=lambda: now[0])
    memory.usage.answers["/v1/tenants/acme/account"] = lambda asked: {"account": {"id": "a"}}
    customers.customer_of("acme")

    def away(asked: Any) -> Any:  # noqa: ANN401 - never answers
        raise problem

    now[0] = 61.0
    memory.usage.answers["/v1/tenants/acme/account"] = away
    memory.usage.answers["/v1/tenants/other/account"] = away

    assert customers.customer_of("acme") == "a"
    assert customers.customer_of("other") is None


def test_remembered_customers_are_bounded(memory: Memory) -> None:
    """One tenant more than the bound, and all are forgotten."""
    wiring.use(usage=HttpUsage())
    customers = AccountCustomers()

    for number in range(CUSTOMERS_MAX + 1):
        customers.customer_of(f"t{number}")

    assert len(customers._known) == 1


def test_the_lookup_can_be_called(memory: Memory) -> None:
    """`fetch_customer_id` asks the same port, whatever address it is given."""
    assert meter_lib.fetch_customer_id("acme", "https://portal.example", "key") == "acme"
    assert meter_lib.fetch_customer_id("stranger") is None


def test_the_guide_runs(memory: Memory) -> None:
    """The Python of "Coming from meter-lib" records what it says."""
    exec(python_of("meter_lib")[0], {})  # The other is for the published package: tests/clients.

    [event] = memory.arrived()
    assert (event.type, event.quantity) == ("page.processed.basic", 24)
    assert event.attributes == {"batch_id": "batch-999"}
