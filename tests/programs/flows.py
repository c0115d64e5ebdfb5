"""Random programs of which it is known how long the longest path of their data flow takes."""

from __future__ import annotations

import random

import anyio

from dagexec import Executor, Timeouts, tool
from dagexec.programs import Program

MOST = 1.05


class Flow:
    """Writes a random program, and knows when each of its calls can end at the earliest."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.lines: list[str] = []
        # When each variable is there, and what control flow has waited for.
        self.ready: dict[str, float] = {"start": 0.0}
        self.looked = 0.0
        self.last = 0.0
        self.wrote = 0.0
        self.lines.append("start = 0")

    def call(self, kind: str, needs: list[str]) -> tuple[str, float]:
        """Return a call's text and its end."""
        seconds = self.chance.randint(10, 50) / 1000
        begin = max([self.looked, self.wrote, *(self.ready[name] for name in needs)])
        if kind == "change":
            begin = max(begin, self.last)
            self.wrote = begin + seconds
        self.last = max(self.last, begin + seconds)
        return f"{kind}({seconds}, [{', '.join(needs)}])", begin + seconds

    def some(self) -> list[str]:
        names = list(self.ready)
        return self.chance.sample(names, min(len(names), self.chance.randint(1, 3)))

    def statement(self) -> None:
        name = f"x{len(self.ready)}"
        kind = "change" if self.chance.random() < 0.1 else "look"
        match self.chance.randint(0, 5):
            case 0 | 1 | 2:
                text, end = self.call(kind, self.some())
                self.lines.append(f"{name} = {text} + 1")
            case 3:
                parts = [self.call("look", self.some()) for _ in range(3)]
                self.lines.append(f"{name} = sum([{', '.join(text for text, _ in parts)}])")
                end = max(end for _, end in parts)
            case 4:
                looked = self.chance.choice(list(self.ready))
                self.looked = max(self.looked, self.ready[looked])
                text, end = self.call(kind, self.some())
                self.lines += [f"{name} = 0", f"if {looked} >= 0:", f"    {name} = {text}"]
            case _:
                needs = self.some()
                self.lines += [f"{name} = 0", f"for i in range({self.chance.randint(2, 4)}):"]
                text, end = self.call("look", needs)
                self.lines.append(f"    {name} += {text}")
        self.ready[name] = end


@tool(effect="read")
async def look(seconds: float, needs: list[int]) -> int:
    """Look for a while."""
    await anyio.sleep(seconds)
    return len(needs)


@tool
async def change(seconds: float, needs: list[int]) -> int:
    """Change something."""
    await anyio.sleep(seconds)
    return len(needs)


async def ratios(seeds: range) -> list[float]:
    """Return how long each program took, over the longest path of its data flow."""
    executor = Executor([look, change], timeouts=Timeouts(call=None), concurrency=None)
    found: list[float] = []
    for seed in seeds:
        flow = Flow(random.Random(seed))
        for _ in range(12):
            flow.statement()
        source = "\n".join(flow.lines)
        report = await executor.run(Program(source))
        assert report.error is None, report.error
        took = report.elapsed / flow.last
        assert took <= MOST, f"{seed}: {took:.3f} of {flow.last:.3f} s:\n{source}"
        assert took >= 0.999, f"{seed}: faster than its data flow, {took:.3f}:\n{source}"
        found.append(took)
    return found
