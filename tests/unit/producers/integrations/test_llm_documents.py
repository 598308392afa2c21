"""What the document on metering language models shows is run, and its meters read its events."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import meterstream
from meterstream_aggregator.catalogue_file import load_catalogue
from tests.unit.producers.integrations.anthropic_answers import Server as AnthropicServer
from tests.unit.producers.integrations.llm import refused, told
from tests.unit.producers.integrations.local_litellm import QUIET, forget_loggers, litellm
from tests.unit.producers.integrations.openai_answers import Server as OpenAIServer
from tests.unit.producers.integrations.test_langchain import StandInChat
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
