"""The names that AgentMeter's document leaves undefined, as a reader of it would define them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from meterstream.compat import agentmeter

if TYPE_CHECKING:
    from tests.compat.documents import Snippet

PROJECT: Final = "proj_123"
AGENT: Final = "agent_456"
USER: Final = "user_789"


def namespace(project: str = PROJECT) -> dict[str, Any]:
    """What snippets find: the package's names, a client, a tracker, and the reader's functions."""
    client = agentmeter.create_client(
        api_key="secret-key", project_id=project, agent_id=AGENT, user_id=USER
    )
    return {
        **{name: getattr(agentmeter, name) for name in agentmeter.__all__},
        "client": client,
        "tracker": agentmeter.AgentMeterTracker(client, project, AGENT),
        "project_id": project,
        "agent_id": AGENT,
        "model": SimpleNamespace(generate=lambda prompt: f"answer to {prompt}"),
        "input_tokens": 700,
        "output_tokens": 300,
        "perform_search": lambda query: [f"found {query}"],
        "advanced_processing": lambda data: f"advanced {data}",
        "basic_processing": lambda data: f"basic {data}",
        "extract_review_tokens": lambda *args, result, **kwargs: (len(args[1]), len(result)),
        "ai_analyze_sentiment": lambda text: "good",
        "is_premium_user": lambda *args, **kwargs: kwargs.get("premium", False),
        "provide_premium_support": lambda issue: f"solved {issue}",
        "get_recommendations": lambda user_id: [f"for {user_id}"],
    }


def in_project(snippet: Snippet, project: str) -> Snippet:
    """The snippet with another project in place of the document's."""
    return snippet._replace(code=snippet.code.replace(PROJECT, project))
