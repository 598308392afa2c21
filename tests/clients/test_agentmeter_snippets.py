"""Every snippet of AgentMeter's document, as it stands there, in both published packages.

The tables say what each does: its requests, what it raises, what it leaves unawaited. Only user
meters, statistics, events and billing records reach a gateway at all; the payments do not, and why
is in `WHY`. A reader's own functions, which the document leaves out, are in `READER`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from typing import TYPE_CHECKING, Final, NamedTuple

import agentmeter
import pytest
from agentmeter.utils import create_client_from_env

from tests.clients.losing import losing_way
from tests.clients.published import published, run_published
from tests.clients.snippets import (
    Ran,
    configured,
    environment_of,
    published_snippets,
    run_snippets,
    shell_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clients.conftest import Gateway
    from tests.clients.losing import Way

pytestmark = pytest.mark.integration

READER: Final = """
import asyncio
from types import SimpleNamespace
from agentmeter import *
from agentmeter import AgentMeterClient, AgentMeterTracker, create_client

project_id, agent_id = "{project}", "agent_456"
client = create_client("k", project_id, agent_id, "user_789", base_url="{url}")
tracker = AgentMeterTracker(client, project_id, agent_id)
model = SimpleNamespace(generate=lambda prompt: f"answer to {{prompt}}")
input_tokens, output_tokens = 700, 300
perform_search = lambda query: [f"found {{query}}"]
advanced_processing = basic_processing = lambda data: f"processed {{data}}"
extract_review_tokens = lambda *args, result, **kwargs: (len(args[1]), len(result))
ai_analyze_sentiment = provide_premium_support = lambda text: "good"
is_premium_user = lambda *args, **kwargs: kwargs.get("premium", False)
get_recommendations = lambda user_id: [f"for {{user_id}}"]
"""
"""What the document leaves to its reader, and a client for the snippets above `Basic Setup`."""

WHY: Final = {
    "no coroutine": "track_… of the tracker return contexts that cannot be awaited",
    "nobody awaits": "0.2.0: record_… are coroutines; without await they do nothing",
    "stand-in": "0.3.2: record_…, statistics, events, billing records answer and send nothing",
    "other name": "extract_tokens and condition are what both versions call these arguments",
    "self": "0.2.0: track_token_based_pay is a function that uses self",
    "no such method": "0.2.0: the tracker has none of these; 0.3.2: they need a user_id",
    "unknown setting": "a client takes less than AgentMeterConfig has",
}


class Row(NamedTuple):
    """What a snippet does. ``raised`` has a part of each error by its statement's first line."""

    requests: Sequence[str] = ()
    raised: Mapping[str, str] = {}
    never_awaited: Sequence[str] = ()
    values: Mapping[str, str] = {}
    printed: str = ""
    why: Sequence[str] = ()


_CONTEXT = "object UsageContext can't be used in 'await'"
_TRACK = "tracker.track_api_request_pay(api_calls=1, unit_price=0.3)"
_TRACK_TOKENS = "tracker.track_token_based_pay(tokens_in=500, tokens_out=250)"
_TRACK_INSTANT = 'tracker.track_instant_pay(amount=2.99, description="Feature unlock")'
_EXTRACTOR = "unexpected keyword argument 'tokens_extractor'"
_CONDITION = "unexpected keyword argument 'condition_func'"
_RECORD = "AgentMeterClient.record_"
_SAME: Final = {
    "1. API Request Pay": Row(
        raised={'await tracker.track_api_request(user_id="user123", api_calls=1)': _CONTEXT},
        why=["no coroutine"],
    ),
    "2. Token-based Pay": Row(
        raised={
            'await tracker.track_token_usage(user_id="user123", tokens_in=100, tokens_out=50)': (
                _CONTEXT
            )
        },
        why=["no coroutine"],
    ),
    "3. Instant Pay": Row(
        raised={'await tracker.track_instant_payment(user_id="user123", amount=5.99)': _CONTEXT},
        why=["no coroutine"],
    ),
    "Basic Setup": Row(),
    "E-commerce Integration Example": Row(
        raised={"class EcommerceService:": _EXTRACTOR}, why=["other name"]
    ),
    "Configuration Object": Row(
        raised={"client = AgentMeterClient(**config.dict())": "argument 'timeout'"},
        why=["unknown setting"],
    ),
}
"""What both versions do alike."""
OLDER: Final = _SAME | {
    "1. API Request Pay Examples": Row(
        never_awaited=[f"{_RECORD}api_request_pay"] * 2,
        values={"kind": "coroutine", "awaited": "0.3"},
        why=["nobody awaits"],
    ),
    "2. Token-based Pay Examples": Row(
        raised={
            "@meter_token_based_pay(": _EXTRACTOR,
            "with track_token_based_pay(client, project_id, agent_id) as usage:": "'self'",
        },
        values={"kind": "coroutine", "awaited": "4.05"},
        why=["nobody awaits", "other name", "self"],
    ),
    "3. Instant Pay Examples": Row(
        raised={"@meter_instant_pay(": _CONDITION},
        never_awaited=[f"{_RECORD}instant_pay"],
        values={"kind": "coroutine", "awaited": "4.99"},
        why=["nobody awaits", "other name"],
    ),
    "User Meter Management": Row(
        requests=["PUT /api/meter", "GET /api/meter/usage", "POST /api/meter/increment",
                  "POST /api/meter/reset"],
        values={"used": "15.5", "left": "0.0"},
        printed="Usage: $0.0/$100.0\n",
    ),
    "Project and Billing Management": Row(
        requests=["GET /api/meter/stats", "GET /api/meter/events", "POST /billing-records"],
        values={"events": "[]", "costs": "[4.99, 4.05, 0.3]", "record": "150.0 pending",
                "records": "[150.0]"},
        printed="Total cost: $9.34\nAPI calls: 1\nTokens: 1500\n",
    ),
    "Batch Tracking": Row(
        raised={
            _TRACK: "no attribute 'track_api_request_pay'",
            _TRACK_TOKENS: "no attribute 'track_token_based_pay'",
            _TRACK_INSTANT: "no attribute 'track_instant_pay'",
        },
        why=["no such method"],
    ),
    "Class-level Metering": Row(
        never_awaited=[f"{_RECORD}api_request_pay"],
        values={"found": "['found tea']"},
        why=["nobody awaits"],
    ),
    "Error Handling": Row(values={"tried": "coroutine"}, why=["nobody awaits"]),
}  # fmt: skip
NEWER: Final = _SAME | {
    "1. API Request Pay Examples": Row(
        values={"kind": "MeterEventResponse", "told": "True 0.0"}, why=["stand-in"]
    ),
    "2. Token-based Pay Examples": Row(
        raised={"@meter_token_based_pay(": _EXTRACTOR},
        values={"kind": "MeterEventResponse", "told": "True 0.0"},
        why=["stand-in", "other name"],
    ),
    "3. Instant Pay Examples": Row(
        raised={"@meter_instant_pay(": _CONDITION},
        values={"kind": "MeterEventResponse", "told": "True 0.0"},
        why=["stand-in", "other name"],
    ),
    "User Meter Management": Row(
        requests=[
            "PUT /api/v1/users/user_123/meter", "GET /api/v1/users/user_123/meter",
            "POST /api/v1/users/user_123/meter/increment",
            "POST /api/v1/users/user_123/meter/reset",
        ],
        values={"used": "15.5", "left": "0.0"},
        printed="Usage: $0.0/$100.0\n",
    ),
    "Project and Billing Management": Row(
        values={"events": "[]", "record": "150.0 pending"},
        printed="Total cost: $0.0\nAPI calls: 0\nTokens: 0\n",
        why=["stand-in"],
    ),
    "Batch Tracking": Row(
        raised=dict.fromkeys((_TRACK, _TRACK_TOKENS, _TRACK_INSTANT), "argument: 'user_id'"),
        why=["no such method"],
    ),
    "Class-level Metering": Row(values={"found": "['found tea']"}, why=["stand-in"]),
    "Error Handling": Row(values={"tried": "MeterEventResponse"}, why=["stand-in"]),
}  # fmt: skip
RECORDS: Final = tuple(
    f"response = client.record_{name}_pay(" for name in ("api_request", "token_based", "instant")
)
ASKED: Final[dict[str, dict[str, str]]] = {
    'client.increment_user_meter(amount=15.50, user_id="user_123")': {
        "used": 'client.get_user_meter(user_id="user_123").current_usage'
    },
    'client.reset_user_meter(user_id="user_123")': {
        "left": 'client.get_user_meter(user_id="user_123").current_usage'
    },
    "billing_record = client.create_billing_record(": {
        "events": "events",
        "record": "f'{billing_record.amount} {billing_record.status}'",
    },
    "@meter_agent(": {"found": "SearchAgent().search('tea')"},
    "try:": {"tried": "type(response).__name__"},
}


def run_document(directory: Path | None, way: Way, project: str, part: slice,
                 asked: Mapping[str, Mapping[str, str]]) -> list[Ran]:  # fmt: skip
    """A part of the document's snippets, with this gateway and project in their settings."""
    settings = {
        '    user_id="user_789"\n': f'    user_id="user_789",\n    base_url="{way.url}",\n',
        "https://api.staging.agentmeter.money": way.url,
        "proj_123": project,
    }
    snippets = configured(published_snippets("agentmeter"), settings)[part]
    prelude = READER.format(project=project, url=way.url)
    return run_snippets(directory, snippets, way=way, prelude=prelude, asked=ASKED | dict(asked))


def assert_rows(ran: Sequence[Ran], table: Mapping[str, Row]) -> None:
    """Each snippet did what its row says, neither more nor less."""
    for each in ran:
        row = table[each.heading]
        found = (each.requests, each.never_awaited, each.values, each.printed)
        assert found == (list(row.requests), list(row.never_awaited), row.values, row.printed), each
        assert each.raised.keys() == row.raised.keys(), each.heading
        for line, part in row.raised.items():
            assert part in each.raised[line]
        assert bool(row.why) == (not row.requests and each.heading != "Basic Setup")


@pytest.mark.parametrize("table", [OLDER, NEWER], ids=["0.2.0", "0.3.2"])
def test_every_snippet_of_the_document_has_its_row(table: Mapping[str, Row]) -> None:
    """Nothing of the document is passed over in silence."""
    headings = [each.heading for each in published_snippets("agentmeter")]

    assert sorted(headings) == sorted(table)
    assert {why for row in table.values() for why in row.why} <= WHY.keys()


def test_the_document_in_the_version_that_it_describes(gateway: Gateway, fresh: str) -> None:
    """0.2.0: the coroutines of the snippets send what they say as soon as somebody awaits them."""
    project = f"proj-{fresh}"
    awaited = {
        line: {"kind": "type(response).__name__", "awaited": "asyncio.run(response).cost"}
        for line in RECORDS
    }
    costs = {
        "billing_record = client.create_billing_record(": {
            **ASKED["billing_record = client.create_billing_record("],
            "costs": "[event['total_cost'] for event in client.get_events(limit=10)]",
            "records": "[record.amount for record in client.list_billing_records()]",
        }
    }
    with losing_way(gateway.url) as way:
        directory = published("agentmeter", "0.2.0")
        first = run_document(directory, way, project, slice(0, 8), awaited)
        for meter, figure in {
            "agentmeter.api_calls": "1",
            "agentmeter.api_request_cost": "0.3",
            "agentmeter.tokens_in": "1000",
            "agentmeter.tokens_out": "500",
            "agentmeter.token_cost": "4.05",
            "agentmeter.payment_cost": "4.99",
        }.items():
            gateway.wait_for(meter, figure, tenant=project)
        second = run_document(directory, way, project, slice(8, None), costs)

    assert_rows([*first, *second], OLDER)
    asked = [request for each in first for done in each.statements for request in done.asked]
    assert asked.count("POST /api/meter/event") == 3
    gateway.settle()
    gateway.wait_for("agentmeter.api_calls", 1, tenant=project)
    gateway.wait_for("agentmeter.payments", 1, tenant=project)


def test_the_document_in_the_version_that_pip_installs(gateway: Gateway, fresh: str) -> None:
    """0.3.2: user meters are real; everything else is answered by the package itself."""
    project = f"proj-{fresh}"
    told = {
        line: {
            "kind": "type(response).__name__",
            "told": "f'{response.success} {response.cost}'",
        }
        for line in RECORDS
    }
    with losing_way(gateway.url) as way:
        assert_rows(run_document(None, way, project, slice(None), told), NEWER)

    gateway.settle()
    for meter in ("api_calls", "tokens_in", "payments", "quantity"):
        gateway.wait_for(f"agentmeter.{meter}", 0, tenant=project)


WITHOUT_KEY = """
import json
from agentmeter import create_client
try:
    create_client()
except TypeError as problem:
    print(json.dumps(str(problem)))
"""


def test_the_documents_environment(
    gateway: Gateway, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.3.2 reads it where it is asked to; `create_client` does not, in either version."""
    [settings] = [block for block in shell_of("agentmeter") if block.startswith("export")]
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value.replace("proj_123", f"proj-{fresh}"))
    monkeypatch.setenv("AGENTMETER_BASE_URL", gateway.url)

    client = create_client_from_env()
    assert client is not None
    with client:
        client.set_user_meter(threshold_amount=7, user_id="user_123")
    meter = gateway.get(
        "/api/meter/usage", [("project_id", f"proj-{fresh}"), ("user_id", "user_123")]
    )

    assert meter["threshold_amount"] == 7
    with pytest.raises(TypeError, match="api_key"):
        agentmeter.create_client()  # type: ignore[call-arg]  # the environment is not read
    said = run_published(published("agentmeter", "0.2.0"), WITHOUT_KEY, environment=os.environ)
    assert "api_key" in said


def test_what_the_document_shows_for_a_shell_is_not_in_the_packages() -> None:
    """The examples and tests that it runs are files of a repository; neither version has them."""
    [install] = [block for block in shell_of("agentmeter") if block.startswith("pip")]
    [examples] = [block for block in shell_of("agentmeter") if "python " in block]
    wanted = [line.split()[1] for line in examples.splitlines() if line.startswith("python ")]
    files = [str(each) for each in distribution("agentmeter").files or ()]
    older = published("agentmeter", "0.2.0")

    assert install.split()[2] == distribution("agentmeter").name
    assert len(wanted) == 3
    assert not [each for each in files if each in wanted or each.startswith("tests/")]
    assert not [each for each in (*wanted, "tests") if (older / each).exists()]
