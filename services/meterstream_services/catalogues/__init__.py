"""Ready catalogues: the meters of what the clients in `meterstream.compat` send."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def ready() -> Mapping[str, Path]:
    """The catalogue files that come with this package, by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}
