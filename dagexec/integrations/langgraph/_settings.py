"""What a node was made with, besides what the stock class keeps itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from dagexec import Timeouts
from dagexec._runtime.observers import Observer
from dagexec._tools.options import ToolOptions


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """The settings of a `DagToolNode`, as its docstring explains them."""

    timeouts: Timeouts
    concurrency: int | None
    on_failure: Any
    barrier: bool
    observers: tuple[Observer, ...]
    references: bool
    options: Mapping[str, ToolOptions]
    stream_calls: bool
    capacities: Mapping[str, int]
