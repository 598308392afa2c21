"""What the document on metering language models shows is run, and its meters read its events."""

from __future__ import annotations

import re
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import meterstream
from meterstream.integrations.anthropic import wrap as wrap_anthropic
from meterstream.integrations.openai import wrap as wrap_openai
from meterstream_aggregator.catalogue_file import load_catalogue
from tests.oracle.counting import LogRecord, count
from tests.unit.producers.integrations.anthropic_answers import MESSAGES
from tests.unit.producers.integrations.anthropic_answers import Server as AnthropicServer
from tests.unit.producers.integrations.llm import refused, told
from tests.unit.producers.integrations.local_litellm import QUIET, forget_loggers, hook, litellm
from tests.unit.producers.integrations.openai_answers import Server as OpenAIServer
from tests.unit.producers.integrations.test_langchain import StandInChat
from tests.unit.producers.reading import arrived
from tests.waiting import eventually

if TYPE_CHECKING:
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter

ROOT: Final = Path(__file__).parents[4]
DOCUMENT: Final = (ROOT / "docs/integrations-llm.md").read_text("utf-8")
EXAMPLES: Final = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
NAMED: Final = {
    re.search(r"integrations\.(\w+)", example)[1]: example  # type: ignore[index]  # each has one
    for example in EXAMPLES
}

pytestmark = QUIET


@pytest.mark.parametrize("name", sorted(NAMED))
def test_the_examples_of_the_document_record_what_they_say(
    make_meter: MakeMeter,
    transport: MemoryTransport,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Each is one call for the tenant acme; only clients and transport are stand-ins."""
    meter = make_meter()
    monkeypatch.setattr(meterstream, "Meter", lambda service: meter)
    monkeypatch.setattr("openai.OpenAI", OpenAIServer().client)
    monkeypatch.setattr("anthropic.Anthropic", AnthropicServer().client)
    monkeypatch.setattr(litellm, "callbacks", [])
    scope: dict[str, Any] = {"model": StandInChat(), "print": lambda _: None}

    exec(compile(NAMED[name], f"{name} example", "exec"), scope)

    eventually(lambda: meter.status().recorded == 1)
    [event] = told(meter, transport)
    assert event.tenant == "acme"
    assert event.quantity in {30, 120}
    assert refused(meter) == 0
    if name == "opentelemetry":
        scope["provider"].shutdown()
    if name == "litellm":
        forget_loggers()


def test_every_hook_has_an_example() -> None:
    """Five hooks, five examples."""
    assert sorted(NAMED) == ["anthropic", "langchain", "litellm", "openai", "opentelemetry"]
    assert len(EXAMPLES) == len(NAMED)


def test_the_meters_of_the_example_read_what_the_document_names() -> None:
    """Each attribute that the catalogue reads is in the document's table."""
    path = ROOT / "docs/examples/llm-meters.yaml"
    documented = set(re.findall(r"`([a-z_]+)`", DOCUMENT.partition("## Whose call")[0]))
    text = path.read_text("utf-8")
    read = set(re.findall(r"attributes\.(\w+)", text))
    grouped = {
        name for names in re.findall(r"group_by: \[(.*?)\]", text) for name in names.split(", ")
    }

    meters = load_catalogue(path).meters

    assert len(meters) == 9
    assert read | grouped <= documented
    assert {"input_tokens", "output_tokens", "cost"} <= read


def test_the_meters_of_the_example_count_what_the_hooks_record(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Two providers, a stream without usage and a priced call, counted by the oracle."""
    meter = make_meter()
    asked: Any = {"model": "claude-stand-in", "max_tokens": 9, "messages": MESSAGES}
    priced: Any = {"litellm_call_id": "1", "call_type": "completion", "response_cost": 2.5e-05}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    wrap_anthropic(AnthropicServer().client(), meter, tenant="acme").messages.create(**asked)
    client = wrap_openai(OpenAIServer().client(), meter, tenant="acme", on_missing="record_zero")
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True).close()
    hook.MeterLogger(meter, tenant="acme").log_success_event(
        priced, {"id": "1", "model": "gpt-4o-mini", "usage": usage}, None, None
    )

    assert meter.flush(5)
    now = time.time_ns() // 1000
    records = [LogRecord(0, number, now, event) for number, event in enumerate(arrived(transport))]
    answer = count((ROOT / "docs/examples/llm-meters.yaml").read_text("utf-8"), records)
    figures: Counter[tuple[str, ...]] = Counter()
    for key, (_, value) in answer.usage.items():
        figures[key.meter, *key.group] += value  # type: ignore[assignment]  # fractions

    claude, gpt = ("anthropic", "claude-stand-in-1"), ("openai", "gpt-4o-2024-08-06")
    assert answer.refusals == []
    assert figures["llm.tokens", *claude] == figures["llm.tokens", *gpt] == 120
    assert figures["llm.input_tokens", *claude] == 100
    assert figures["llm.cached_tokens", *claude] == 60
    assert figures["llm.cache_write_tokens", *claude] == 30
    assert figures["llm.output_tokens", *gpt] == 20
    assert figures["llm.reasoning_tokens", *gpt] == 12
    assert figures["llm.calls", "gpt-4o", "chat", "stopped"] == 1
    assert figures["llm.calls_without_usage", "gpt-4o"] == 1
    assert figures["llm.cost", "gpt-4o-mini"] == Fraction("0.000025")
