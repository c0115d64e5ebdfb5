"""A conftest.py for LangGraph's own tests: puts `DagToolNode` in the place of `ToolNode`.

    NODE=dagexec.integrations.langgraph:DagToolNode python -m pytest tests

Beside the `tests` folder of the sdist it is imported before anything there, so that the tests'
`from langgraph.prebuilt import ToolNode` finds the other class. Without NODE nothing is changed.
"""

from __future__ import annotations

import importlib
import os

import pytest
from langgraph.prebuilt.tool_node import ToolNode as Stock

NODE = os.environ.get("NODE")

# Every module that binds the name when it is imported; the last two are in the package langchain.
HOLDERS = (
    ("langgraph.prebuilt.tool_node", "ToolNode"),
    ("langgraph.prebuilt", "ToolNode"),
    ("langgraph.prebuilt.chat_agent_executor", "ToolNode"),
    ("langchain.agents.factory", "ToolNode"),
    ("langchain.tools.tool_node", "_ToolNode"),
)

if NODE:
    module, _, name = NODE.partition(":")
    # First of all: its own import must find the stock class.
    other = getattr(importlib.import_module(module), name)
    for holder, attribute in HOLDERS:
        try:
            found = importlib.import_module(holder)
        except ImportError:
            continue
        if hasattr(found, attribute):
            setattr(found, attribute, other)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test module that still holds the stock class: it would prove nothing."""
    left = {item.module.__name__ for item in items if getattr(item.module, "ToolNode", 0) is Stock}
    if NODE and left:
        msg = f"the stock ToolNode is still bound in {sorted(left)}"
        raise pytest.UsageError(msg)
