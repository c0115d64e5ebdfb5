"""Parameters with names that LangChain uses itself, and tools of LangChain's own kinds."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("langgraph.prebuilt", reason="needs the extra langgraph")

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langchain_core.tools import Tool as SingleInput
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from dagexec import Call, Executor, Tool
from dagexec.integrations.langgraph import DagToolNode, from_langchain, to_langchain
from planners.langchain import bind, widen

NAMES = [
    *("config", "run_manager", "callbacks", "store", "state", "runtime", "tool_call_id", "self"),
    *("args", "kwargs", "given", "input", "tool_input", "run_id", "name", "tags", "function"),
]


def own(name, kind):
    """Return a dagexec tool with one parameter, as MCP makes them too."""

    async def awaited(**args):
        return f"got {args[name]!r}"

    def called(**args):
        return f"got {args[name]!r}"

    schema = {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
    return Tool.from_schema("t", schema, awaited if kind == "waits" else called, effect="read")


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_may_have_any_name(way, graph, state, contents, name):
    """The value that the model wrote arrives, and so does one by reference."""
    node = DagToolNode([own(name, way.kind)])
    given = state(("t", {name: "v"}), ("t", {name: {"$ref": "1"}}))
    assert contents(way.run(graph(node), given)) == ["got 'v'", "got \"got 'v'\""]


@pytest.mark.parametrize("name", NAMES)
def test_the_tool_for_langchain_by_itself(way, name):
    """Also without a node."""
    made = to_langchain(own(name, way.kind))
    if way.asynchronous:
        assert asyncio.run(made.ainvoke({name: "v"})) == "got 'v'"
    elif way.kind == "blocks":
        assert made.invoke({name: "v"}) == "got 'v'"
    else:
        with pytest.raises(NotImplementedError, match="does not support sync"):
            made.invoke({name: "v"})
    assert list(convert_to_openai_tool(widen(made))["function"]["parameters"]["properties"]) == [
        name
    ]


class Query(BaseModel):
    """What is looked for."""

    q: str


class ByClass(BaseTool):
    """A tool without a schema of its own, which wants the config."""

    name: str = "found"
    description: str = "Find."

    def _run(self, q: str, config: RunnableConfig) -> str:
        assert "callbacks" in config
        return f"found {q}"


async def afind(q):
    return f"found {q}"


def find(q):
    return f"found {q}"


def find_with(q, callbacks=None):
    assert callbacks is not None
    return f"found {q}"


KINDS = {
    "called": lambda: SingleInput("found", find, "Find."),
    "awaited": lambda: SingleInput("found", None, "Find.", coroutine=afind),
    "both": lambda: SingleInput("found", find, "Find.", coroutine=afind),
    "schema": lambda: SingleInput("found", find, "Find.", args_schema=Query),
    "callbacks": lambda: SingleInput("found", find_with, "Find."),
    "class": ByClass,
}


@pytest.mark.parametrize("kind", KINDS)
def test_tools_of_langchains_own_kinds(method, graph, state, contents, kind):
    """Model, executor and node agree on the parameter, which is the one that LangChain shows."""
    known = KINDS[kind]()
    name = "__arg1" if kind not in ("schema", "class") else "q"
    shown = convert_to_openai_tool(known)["function"]["parameters"]["required"]
    assert shown[0] == name
    wide = convert_to_openai_tool(widen(known))["function"]["parameters"]
    assert list(wide["properties"]) == wide["required"] == shown
    adapted = from_langchain(known, effect="read")
    assert list(adapted.parameters["properties"]) == adapted.parameters["required"] == [name]
    report = Executor([adapted]).run_sync([Call("1", "found", {name: "q"})])
    assert report["1"].value == "found q"
    for options in ({}, {"found": {"effect": "read", "secret": [name]}}):
        given = state(("found", {name: "q"}), ("found", {name: {"$ref": "1"}}))
        node = DagToolNode([known], options=options)
        assert contents(method.run(graph(node), given)) == ["found q", "found found q"]


def test_a_text_that_is_json_stays_a_text(way, graph, message, contents):
    """A turn later, too: the parameter takes a text."""

    def show(q):
        return f"{type(q).__name__} {q}"

    single = SingleInput("show", show, "Show.")
    answer = '{"a": 1}'
    given = [
        message(("show", {"__arg1": "x"})),
        {"role": "tool", "content": answer, "tool_call_id": "c1"},
        message(("show", {"__arg1": {"$ref": "1"}}, "c2")),
    ]
    found = way.run(graph(DagToolNode([single])), {"messages": given})
    assert contents(found)[-1] == 'str {"a": 1}'


def test_bind_shows_the_single_input():
    """What `bind` gives to a model."""
    seen = []

    class Model:
        def bind_tools(self, tools, **_):
            seen.extend(convert_to_openai_tool(each)["function"] for each in tools)
            from langchain_core.runnables import RunnableLambda

            return RunnableLambda(lambda _: AIMessage("Done.")).bind()

    bind(Model(), [KINDS["called"]()])
    assert list(seen[0]["parameters"]["properties"]) == ["__arg1"]
