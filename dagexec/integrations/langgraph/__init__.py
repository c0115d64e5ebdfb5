"""LangGraph: a node that runs a message's tool calls as a graph, in place of `ToolNode`.

    from dagexec.integrations.langgraph import DagToolNode

    builder.add_node("tools", DagToolNode(tools))

Needs `pip install 'dagexec[langgraph]'`, and runs on asyncio only, because LangGraph does. The
model's side, tools that take references, is `planners.langchain`.
"""

from importlib import import_module

from dagexec._errors import MissingExtra

try:
    import_module("langgraph.prebuilt.tool_node")
except ImportError as error:
    _MSG = "LangGraph is not installed: pip install 'dagexec[langgraph]'"
    raise MissingExtra(_MSG) from error

from dagexec.integrations.langgraph._agent import dag_agent
from dagexec.integrations.langgraph._node import DagToolNode
from dagexec.integrations.langgraph._references import FIRST_CALL, numbered
from dagexec.integrations.langgraph._tools import from_langchain, to_langchain

__all__ = [
    "FIRST_CALL",
    "DagToolNode",
    "dag_agent",
    "from_langchain",
    "numbered",
    "to_langchain",
]
