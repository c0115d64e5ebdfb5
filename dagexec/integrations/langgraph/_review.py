"""People in front of the tools' node: what a middleware shows them.

LangChain's `HumanInTheLoopMiddleware` shows the arguments as the model wrote them, before any call
runs. A reference among them tells a person nothing, so values stand there where they are known.
"""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast, final

from langchain_core.messages import AIMessage, ToolCall
from langchain_core.runnables import Runnable, RunnableConfig

from dagexec import DagexecError
from dagexec._core.earlier_calls import is_marked
from dagexec.integrations.langgraph._input import ids_of, unanswered
from dagexec.integrations.langgraph._references import References
from dagexec.integrations.langgraph._tracked import TrackedCall
from dagexec.lowlevel import resolved

# ------------------------------------------------------------------------------- what people see


def reviewed_names(runnable: Any) -> Collection[str]:
    """Return the tools whose calls a node shows to people, if it is such a middleware's."""
    for function in (getattr(runnable, "func", None), getattr(runnable, "afunc", None)):
        owner = getattr(function, "__self__", None)
        names = getattr(owner, "interrupt_on", None)
        if isinstance(names, dict) and hasattr(owner, "after_model"):
            return cast("dict[str, Any]", names).keys()
    return ()


@final
class Reviewed(Runnable[Any, Any]):
    """A middleware's node that sees values in the place of references to earlier results."""

    def __init__(self, inner: Runnable[Any, Any], names: Collection[str]) -> None:
        """Take the node, and the names of the tools whose calls it shows."""
        self._inner = inner
        self._names = names

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - LangChain's name
        """Run it with values, and put the references back into what it returns."""
        shown = _shown(input, self._names)
        found = self._inner.invoke(shown.state, config, **kwargs)
        return shown.restored(found)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - LangChain's name
        """Do the same in an event loop."""
        shown = _shown(input, self._names)
        found = await self._inner.ainvoke(shown.state, config, **kwargs)
        return shown.restored(found)


@final
class _Shown:
    """A state whose last calls have values, and what stood there before."""

    def __init__(
        self, state: Any, originals: Sequence[ToolCall], shown: Sequence[ToolCall]
    ) -> None:
        self.state = state
        self._pairs = list(zip(originals, shown, strict=True))

    def restored(self, update: Any) -> Any:
        """Return an update with the references where a person has left the values alone."""
        if not self._pairs or not isinstance(update, dict) or "messages" not in update:
            return update
        messages: list[Any] = [
            _with_calls(each, [self._original(call) for call in each.tool_calls])
            if isinstance(each, AIMessage) and each.tool_calls
            else each
            for each in update["messages"]
        ]
        return {**update, "messages": messages}

    def _original(self, call: ToolCall) -> ToolCall:
        for original, shown in self._pairs:
            if original["id"] == call["id"] and original["name"] == call["name"]:
                args = {
                    key: original["args"][key] if shown["args"].get(key) == value else value
                    for key, value in call["args"].items()
                }
                return cast("ToolCall", {**call, "args": args})
        return call


def _with_calls(message: AIMessage, calls: Sequence[ToolCall]) -> AIMessage:
    return message.model_copy(update={"tool_calls": list(calls)})


def _shown(state: Any, names: Collection[str]) -> _Shown:
    """Return a state in which the reviewed calls have values; raise DagexecError if they cannot."""
    messages: Sequence[Any] = state.get("messages", ()) if isinstance(state, dict) else ()
    last = next((each for each in reversed(messages) if isinstance(each, AIMessage)), None)
    calls = [] if last is None else last.tool_calls
    marked = [call for call in calls if call["name"] in names and is_marked(call["args"])]
    if last is None or not marked:
        return _Shown(state, (), ())
    open_ = unanswered(calls, messages)
    runtime: Any = None
    tracked = [
        TrackedCall(id_, call, "dict", runtime)
        for id_, call in zip(ids_of(open_), open_, strict=True)
    ]
    references = References(messages, tracked)
    originals = [each.call for each in tracked if each.call in marked]
    shown = [_valued(each, references) for each in tracked if each.call in marked]
    by_place = dict(zip(map(id, originals), shown, strict=True))
    replaced = _with_calls(last, [by_place.get(id(call)) or call for call in calls])
    changed = [replaced if each is last else each for each in messages]
    return _Shown({**cast("dict[str, Any]", state), "messages": changed}, originals, shown)


def _valued(tracked: TrackedCall, references: References) -> ToolCall:
    name = tracked.call["name"]
    call = references.call(tracked, "reviewed", None)
    if call.problem is not None:
        return tracked.call  # it will not run, and the model is told why
    if call.refs:
        named = ", ".join(dict.fromkeys(references.named(ref.call) for ref in call.refs))
        msg = (
            f"the call of {name!r} has to be reviewed by a person, who cannot see what it would do:"
            f" its arguments refer to {named}, of the same message, which has not run yet."
            f" Let the node ask when the values are there, with"
            f" dag_agent(agent, options={{{name!r}: {{'approval': True}}}}), that is approval= in"
            " the place of HumanInTheLoopMiddleware for this tool"
        )
        raise DagexecError(msg)
    return cast("ToolCall", {**tracked.call, "args": resolved(call, {})})
