"""`dagexec demo`: replies of three APIs, run with real tools, without a key or a network.

The replies are in the shape in which each API sends them and are parsed by its own SDK.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from textwrap import indent
from typing import Any, Final, Protocol, cast

import anyio

from dagexec import Executor, Plan, Report, Timeouts
from planners import Planner
from planners._demo._tools import Shop, open_shop
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

_WIDTH: Final = 96
_GLYPHS: Final = {"done": "✓", "failed": "✗", "timed_out": "!", "skipped": "-"}


class Terminal(Protocol):
    """Where the demonstration is shown; the command `dagexec` brings it."""

    def write(self, text: str = "") -> None:
        """Write a line."""
        ...

    async def watch(self, executor: Executor, plan: Plan) -> Report:
        """Run a plan before the user's eyes."""
        ...


@dataclass(frozen=True, slots=True)
class Scene:
    """One reply: its API, its planner, and what there is to see."""

    title: str
    planner: type[Planner]
    file: str
    text: str


SCENES: Final = (
    Scene(
        "OpenAI Chat Completions",
        ChatPlanner,
        "chat.json",
        "Eight calls in one reply: call 2 needs a part of what call 1 returns, and so on.\n"
        "One call will fail, one will time out, and one is skipped because of that.",
    ),
    Scene(
        "OpenAI Responses",
        ResponsesPlanner,
        "responses.json",
        "A diamond: two prices are looked up at the same time and meet in one text.\n"
        "The last call has a wrong argument: the model hears of it, the others run.",
    ),
    Scene(
        "Anthropic Messages",
        MessagesPlanner,
        "messages.json",
        "Call 3 reads the note that call 2 writes, and names no reference: it still waits,\n"
        "because the tools say which note they touch. All answers go back in one message.",
    ),
)


def main(argv: Sequence[str], terminal: Terminal) -> int:
    """Show what dagexec does: no key, no network, a few seconds."""
    if argv:
        asked = argv[0] in {"-h", "--help"}
        terminal.write(
            (main.__doc__ or "") if asked else "dagexec demo takes no arguments but --display"
        )
        return 0 if asked else 2
    anyio.run(_demo, terminal)
    return 0


async def _demo(terminal: Terminal) -> None:
    with open_shop() as shop:
        for number, scene in enumerate(SCENES, 1):
            await _show(terminal, shop, number, scene)
    terminal.write("That was all of it: no key, no network, nothing left behind. Next: README.md")


async def _show(terminal: Terminal, shop: Shop, number: int, scene: Scene) -> None:
    head = f"{number}. {scene.title} "
    terminal.write(f"{head:─<{_WIDTH}}")
    terminal.write(f"{scene.text}\n")
    payload = json.loads(files("planners._demo").joinpath(scene.file).read_text("utf-8"))
    planner = scene.planner(shop.tools)
    response = planner.response(payload)
    plan = planner.plan(response)
    kind = f"{type(response).__module__.partition('.')[0]}.{type(response).__name__}"
    terminal.write(f"The plan, read from {kind} (layer, call, tool <- the calls it waits for)")
    terminal.write(f"{plan.diagram}\n")
    terminal.write("The run")
    executor = Executor(shop.tools, timeouts=Timeouts(call=5, workflow=20))
    report = await terminal.watch(executor, plan)
    terminal.write(f"\nThe outcomes: {report}")
    for name, outcome in report.items():
        text = repr(outcome.value)
        if not outcome.ok:
            kind = type(outcome.error).__name__
            text = f"{kind}: {outcome.error}" if outcome.error else f"because of {outcome.because}"
        terminal.write(f"  {_GLYPHS[outcome.status]} {name} {outcome.status:<9} {_short(text)}")
    terminal.write(f"\nWhen each call waited and ran\n{report.timeline.to_text(_WIDTH)}")
    terminal.write("\nWhat goes back to the model, every call answered once")
    for message in planner.results(report):
        terminal.write(indent(_pretty(message), "  "))
    terminal.write()


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH - 18 else line[: _WIDTH - 19] + "…"


def _pretty(message: dict[str, Any]) -> str:
    """Return a message with one line for each of its blocks."""
    content = message.get("content")
    if not isinstance(content, list):
        return json.dumps(message, ensure_ascii=False)
    items = cast("list[Any]", content)
    blocks = ",\n".join(f"  {json.dumps(item, ensure_ascii=False)}" for item in items)
    rest = json.dumps({**message, "content": "*"}, ensure_ascii=False)
    return rest.replace('"*"', f"[\n{blocks}\n]")
