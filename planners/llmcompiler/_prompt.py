"""What an LLMCompiler planner says to the model: the tools, the form of a plan, the decision."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dagexec import Tool
from dagexec.lowlevel import schemas
from planners._core.edge import is_dict, is_list, listed
from planners.llmcompiler._line_heads import END

DECISION: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "thought": {"type": "string", "description": "What the results say"},
        "action": {"type": "string", "enum": ["finish", "replan"]},
        "answer": {"type": ["string", "null"], "description": "The answer, to finish"},
        "plan": {
            "type": ["string", "null"],
            "description": "A new plan in its text form, to replan",
        },
    },
    "required": ["thought", "action", "answer", "plan"],
    "additionalProperties": False,
}

_PLAN: Final = """\
Solve the user's task with the tools below. Write a plan: all the calls that the task needs, one \
on a line, with as many as possible that do not depend on each other. They run in parallel; then \
you get the results and decide.

A plan looks like this (for other tools than yours):

Thought: the two heights can be looked up at the same time.
1. find("height of the Eiffel Tower in m")
2. find("height of Big Ben in m", limit=1)
{example}{last}. join(){end}

- Each call has a number of its own, larger than all before it, and stands on a line of its own.
- Arguments are Python or JSON literals, by position or by name: "text", 3, true, ["a", "b"], \
{{"key": 1}}, limit=5. A text with line breaks stands in three double quotes or has \\n for each.
{references}- A call cannot stand inside of another one, and there are no tools but these.
- Lines that begin with "Thought:" are for you. The last line is join(){end}

Tools:
"""

_EXAMPLE: Final = '3. calculate("$1 - ${2.items[0].value}")\n'

_REFERENCES: Final = """\
- $1 is the whole result of call 1 and keeps its type where it is the whole argument, as in f($1); \
inside a longer text it becomes text. ${1.items[0].name} is a part of it. A call starts as soon as \
the results that it refers to are there. Refer to smaller numbers only, and never write a \
placeholder for a result. $$1 is the text $1.
"""

_DECIDE: Final = """\
Decide now. If the results answer the task, reply with one JSON object and nothing else:
{{"thought": "what the results say", "action": "finish", "answer": "the answer for the user"}}
If they do not, reply with {{"thought": "what is missing", "action": "replan"}} and a new plan on \
the lines behind it. Its numbers begin at {next}; {earlier}do not repeat calls that are done."""

_SHOWN_OPTIONS: Final = 8
_DEEPEST: Final = 4


def instructions(
    tools: Iterable[Tool[..., Any]], examples: Iterable[str], *, references: bool
) -> str:
    """Return the text for the system prompt."""
    text = _PLAN.format(
        example=_EXAMPLE if references else "",
        last=4 if references else 3,
        references=_REFERENCES if references else "",
        end=END,
    )
    text += "\n".join(_described(tool) for tool in tools)
    given = "\n\n".join(example.strip() for example in examples)
    return f"{text}\n\nExamples:\n\n{given}" if given else text


def decide(following: int, *, results: bool, references: bool) -> str:
    """Return what the joiner is asked; `results` says whether there are any by now."""
    can_refer = "earlier results can be referred to, as before; "
    return _DECIDE.format(next=following, earlier=can_refer if results and references else "")


def replan(following: int) -> str:
    """Return the request for a plan that was announced and did not come."""
    return f"Write the new plan now, in the same form; its numbers begin at {following}."


def _described(tool: Tool[..., Any]) -> str:
    text = f"- {tool.name}({signature(tool.parameters)})"
    described = " ".join(tool.description.split())
    if described:
        text += f": {described}"
    properties: dict[str, Any] = tool.parameters.get("properties") or {}
    for name, part in properties.items():
        told = part.get("description") if is_dict(part) else None
        if told:
            text += f"\n    {name}: {' '.join(str(told).split())}"
    return text


def signature(schema: Mapping[str, Any]) -> str:
    """Return the parameters of a tool, `query: string, limit: integer = 3`, in their order."""
    properties: dict[str, Any] = schema.get("properties") or {}
    needed: list[str] = schema.get("required") or []
    parts: list[str] = []
    for name, part in properties.items():
        text = f"{name}: {_type(part, schema)}"
        if is_dict(part) and "default" in part:
            text += f" = {json.dumps(part['default'], ensure_ascii=False, default=str)}"
        elif name not in needed:
            text += " = (optional)"
        parts.append(text)
    return ", ".join(parts)


def _type(part: Any, root: Mapping[str, Any], depth: int = 0) -> str:
    """Return a few words on what a schema takes."""
    node = schemas.resolved(part, root)
    if not is_dict(node) or depth > _DEEPEST:
        return "any"
    choices = listed(node.get("enum")) or ([node["const"]] if "const" in node else [])
    options = listed(node.get("anyOf")) or listed(node.get("oneOf"))
    if choices:
        shown = [json.dumps(value, ensure_ascii=False) for value in choices[:_SHOWN_OPTIONS]]
        return " | ".join(shown) + (" | …" if len(choices) > _SHOWN_OPTIONS else "")
    if options:
        return " | ".join(dict.fromkeys(_type(option, root, depth + 1) for option in options))
    return _one_type(node, root, depth)


def _one_type(node: dict[str, Any], root: Mapping[str, Any], depth: int) -> str:
    kind = node.get("type", "any")
    properties = node.get("properties")
    if kind == "array" and "items" in node:
        return f"[{_type(node['items'], root, depth + 1)}]"
    if kind == "object" and is_dict(properties):
        fields = (f"{name}: {_type(item, root, depth + 1)}" for name, item in properties.items())
        return f"{{{', '.join(fields)}}}"
    return " | ".join(map(str, kind)) if is_list(kind) else str(kind)
