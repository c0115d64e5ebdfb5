"""How many turns references save in recorded conversations: python -m tests.benchmarks.traces.

The conversations in traces.json are written for this, in the shape of published records: shops and
airlines whose tools answer JSON as text, a code forge, a notes server that is laxer than its own
schema, and calls for each item of a list. `--file` takes others in the same form: a list of objects
with `question`, `tools` (name, inputSchema, effect) and `turns`, each a list of calls with `tool`,
`args` and `result`, and `refused` where the server refused the call.

A turn is a request to the model. A call can go into the turn of an earlier one if all that it takes
over from that one's result can be said by a reference; a write waits for all earlier turns. That a
reference means the value is not assumed: dagexec resolves each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from dagexec import Call, Executor, Plan, Ref, Tool, tool
from dagexec.testing import run_virtual
from planners.openai import ChatPlanner

FEATURES: Final = ("whole results", "paths", "JSON in text", "[0], [-1]", "templates", "$each")
_SHORTEST: Final = 3  # characters of a text that counts as taken over from a result

Steps: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """A value that a call took over from the result of an earlier one, and what saying it needs."""

    source: int
    value: Any
    path: Steps
    needs: frozenset[str]


@dataclass(frozen=True, slots=True)
class Said:
    """A recorded call and its turn."""

    turn: int
    tool: str
    args: dict[str, Any]
    result: Any
    write: bool


@dataclass(slots=True)
class Counts:
    """What was counted in conversations."""

    turns: int = 0
    parallel: int = 0
    with_features: tuple[int, ...] = (0,) * len(FEATURES)
    taken: int = 0
    reachable: int = 0
    accepted: int = 0
    false_refusals: int = 0


def counts_of(conversations: Sequence[dict[str, Any]]) -> Counts:
    """Count turns, values and refusals in conversations."""
    counts = Counts()
    for each in conversations:
        calls = _calls(each)
        taken = [_taken(each["question"], calls, at) for at in range(len(calls))]
        _fan_outs(calls, taken)
        counts.turns += len(each["turns"]) + 1
        counts.parallel += _turns(calls, taken, None)
        allowed = [frozenset(FEATURES[: at + 1]) for at in range(len(FEATURES))]
        counts.with_features = tuple(
            before + _turns(calls, taken, features)
            for before, features in zip(counts.with_features, allowed, strict=True)
        )
        found = [one for some in taken for one in some]
        counts.taken += len(found)
        counts.reachable += sum(_reaches(calls[one.source].result, one) for one in found)
        _refusals(each, counts)
    return counts


def _calls(conversation: dict[str, Any]) -> list[Said]:
    effects = {each["name"]: each.get("effect", "write") for each in conversation["tools"]}
    return [
        Said(turn, call["tool"], call["args"], call["result"], effects[call["tool"]] == "write")
        for turn, calls in enumerate(conversation["turns"])
        for call in calls
    ]


# ---------------------------------------------------------------------------- values taken over


def _taken(question: str, calls: Sequence[Said], at: int) -> list[Taken]:
    """Return what a call took over from results of earlier turns."""
    call = calls[at]
    found: list[Taken] = []
    for value in _values(call.args):
        if isinstance(value, bool) or len(str(value)) < _SHORTEST or str(value) in question:
            continue
        earlier = [one for one in range(at) if calls[one].turn < call.turn]
        best = [way for one in earlier for way in _ways(one, calls[one].result, value)]
        if best:
            found.append(min(best, key=lambda way: len(way.needs)))
    return found


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in cast("dict[str, Any]", value).values():
            yield from _values(item)
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _values(item)
    elif value is not None:
        yield value


def _ways(source: int, result: Any, value: Any) -> Iterator[Taken]:
    """Yield the places of a result where a value stands, or a part of it as a template's part."""
    for path, part, needs in _places(result, (), frozenset({"whole results"})):
        if part == value and type(part) is type(value):
            yield Taken(source, value, path, needs)
        elif isinstance(value, str) and len(str(part)) > _SHORTEST and str(part) in value:
            yield Taken(source, part, path, needs | {"templates"})


def _places(
    value: Any, path: Steps, needs: frozenset[str]
) -> Iterator[tuple[Steps, Any, frozenset[str]]]:
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            inner = json.loads(value)
        except ValueError:
            inner = value
        if inner is not value:
            yield from _places(inner, path, needs | {"JSON in text"})
            return
    if isinstance(value, dict):
        for key, item in cast("dict[str, Any]", value).items():
            yield from _places(item, (*path, key), needs | {"paths"})
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        for index, item in enumerate(items):
            end = index in (0, len(items) - 1)
            how = "[0], [-1]" if end else "$each"
            yield from _places(item, (*path, index), needs | {"paths", how})
    else:
        yield path, value, needs


def _fan_outs(calls: Sequence[Said], taken: list[list[Taken]]) -> None:
    """Mark calls that are made for each item of one list: they need `$each`, however many."""
    groups: dict[tuple[int, str, Steps], dict[int, None]] = {}
    for at, some in enumerate(taken):
        for one in some:
            place = next((n for n, step in enumerate(one.path) if isinstance(step, int)), None)
            if place is not None and "templates" not in one.needs:
                shape: Steps = (*one.path[:place], *one.path[place + 1 :])
                groups.setdefault((one.source, calls[at].tool, shape), {})[at] = None
    for (source, _, _), members in groups.items():
        if len(members) > 1:
            for at in members:
                taken[at] = [
                    Taken(one.source, one.value, one.path, one.needs | {"$each"})
                    if one.source == source
                    else one
                    for one in taken[at]
                ]


def _reaches(result: Any, one: Taken) -> bool:
    """Whether dagexec's reference gives the value."""

    @tool(effect="read")
    async def recorded() -> object:
        return result

    @tool(effect="read")
    async def take(value: object) -> object:
        return value

    plan = Plan([Call("1", "recorded"), Call("2", "take", {"value": Ref("1", one.path)})])
    report = run_virtual(Executor([recorded, take]).run, plan, backend="asyncio")
    return report["2"].status == "done" and report["2"].value == one.value


# -------------------------------------------------------------------------------------- turns


def _turns(
    calls: Sequence[Said], taken: Sequence[Sequence[Taken]], features: frozenset[str] | None
) -> int:
    """Return how many turns the calls need; without features no value can be said ahead."""
    at: list[int] = []
    for number, call in enumerate(calls):
        needs = [
            at[one.source] + (features is None or not one.needs <= features)
            for one in taken[number]
        ]
        if call.write:
            needs += [at[one] + 1 for one in range(number) if calls[one].turn < call.turn]
        at.append(max(needs, default=0))
    return max(at, default=-1) + 2  # and the one with the answer


def _refusals(conversation: dict[str, Any], counts: Counts) -> None:
    """Count the calls that the server took and the planner refuses."""
    tools = [
        Tool.from_schema(each["name"], each["inputSchema"], dict, effect=each.get("effect"))
        for each in conversation["tools"]
    ]
    number = 0
    for calls in conversation["turns"]:
        for call in calls:
            number += 1
            if call.get("refused"):
                continue
            counts.accepted += 1
            body = {"name": call["tool"], "arguments": json.dumps(call["args"])}
            reply = {"id": f"c{number}", "type": "function", "function": body}
            message = {"role": "assistant", "content": None, "tool_calls": [reply]}
            (planned,) = ChatPlanner(tools).plan({"choices": [{"message": message}]})
            by_name = next(one for one in tools if one.name == call["tool"])
            refused = planned.problem is not None or by_name.problems(planned.args)
            counts.false_refusals += bool(refused)


# ------------------------------------------------------------------------------------- figures


def told(counts: Counts) -> str:
    """Return the figures as lines."""
    lines = [f"{'recorded turns':24}{counts.turns:6}", f"{'in parallel':24}{counts.parallel:6}"]
    for name, turns in zip(FEATURES, counts.with_features, strict=True):
        lines.append(f"{'with ' + name:24}{turns:6}")
    share = counts.reachable / counts.taken if counts.taken else 1.0
    lines += [
        f"values taken over: {counts.taken}, reachable by a path: {share:.1%}",
        f"calls that servers took: {counts.accepted}, refused: {counts.false_refusals}",
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--file", type=Path, default=Path(__file__).with_name("traces.json"))
    print(told(counts_of(json.loads(parser.parse_args().file.read_text()))))


if __name__ == "__main__":
    main()
