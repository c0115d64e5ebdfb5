"""Agents that LangGraph and LangChain build, with the whole message in one node."""

from __future__ import annotations
from typing import Any


def dag_agent(agent: Any, **settings: Any) -> Any:
    raise NotImplementedError
