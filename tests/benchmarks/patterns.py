"""The four patterns of the LLMCompiler paper: `python -m tests.benchmarks --only patterns`.

Each pattern is one question of one of the paper's benchmarks (arXiv:2312.04511v3), answered by a
scripted model below the real SDK, in virtual time, in four ways:

- ReAct: one call a turn; for the Game of 24 its baseline, Tree of Thoughts, one call at a time;
- parallel: native parallel calls without references, one turn for each level of dependencies;
- dagexec: a plan as text, `solve(stream=False)`;
- streaming: the same with `solve(stream=True)`, so calls run while the model writes.

From the paper's tables: seconds of ReAct and of LLMCompiler without streaming, tokens written per
question, the tools' latencies where they are given. A model writes `speed` tokens a second. What is
left of a total is the time before the first token of a request, which is solved for, once from
ReAct's total and once from LLMCompiler's without streaming. So the columns ReAct and dagexec agree
with the paper where dagexec adds nothing, and the columns parallel and streaming are predictions.
`limit` is the speed-up if all tools took no time: what the model alone allows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dagexec import Call, Executor, Timeouts
from dagexec.testing import Reply, ScriptedModel, ToolBox
from planners import solve
from planners.llmcompiler import LLMCompilerPlanner
from planners.openai import ChatPlanner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIZE = 4  # characters in a token of the scripted model
FREE = {"type": "object", "properties": {"text": {"type": "string"}, "context": {}}}


@dataclass(frozen=True)
class Tables:
    """What the paper says of a benchmark; seconds and tokens per question."""

    react: float
    react_tokens: int
    parallel: float | None
    """OpenAI's parallel function calling."""
    parallel_tokens: int
    planned: float | None
    """LLMCompiler without streaming."""
    streamed: float
    """LLMCompiler as it is."""

    @property
    def speedup(self) -> float:
        """Over ReAct."""
        return self.react / self.streamed


@dataclass(frozen=True)
class Step:
    """One call: its tool, its seconds, the steps that it needs, and its tokens in a plan."""

    tool: str
    seconds: float
    needs: tuple[int, ...] = ()
    tokens: int = 20


@dataclass(frozen=True)
class Round:
    """A plan and how many tokens stand before, and behind its calls."""

    steps: tuple[Step, ...]
    before: int
    behind: int


@dataclass(frozen=True)
class Pattern:
    """One pattern: what is written, what is run, how long each takes."""

    name: str
    paper: Tables
    speed: float
    rounds: tuple[Round, ...]
    answer: int
    """Tokens of the last reply."""
    delay: float | None = None
    """Seconds before the first token; None to solve for it."""
    tree: bool = False
    """The baseline is a program without a planner."""

    @property
    def steps(self) -> list[Step]:
        """Return the calls of all rounds."""
        return [step for each in self.rounds for step in each.steps]

    @property
    def tools(self) -> float:
        """Return the seconds of all calls, one after the other."""
        return sum(step.seconds for step in self.steps)

    @property
    def critical(self) -> float:
        """Return the seconds of the longest chain, summed over the rounds."""
        return sum(_critical(each) for each in self.rounds)

    @property
    def written(self) -> int:
        """Return the tokens of all plans and the answer."""
        return self.answer + sum(
            each.before + each.behind + sum(step.tokens for step in each.steps)
            for each in self.rounds
        )

    @property
    def react_delay(self) -> float:
        """Return the seconds before the first token of a turn of ReAct."""
        if self.delay is not None:
            return self.delay
        rest = self.paper.react - self.paper.react_tokens / self.speed - self.tools
        return rest / (len(self.steps) + 1)

    @property
    def plan_delay(self) -> float:
        """Return the seconds before the first token of a plan or an answer."""
        if self.delay is not None or self.paper.planned is None:
            return self.delay or 0.0
        rest = self.paper.planned - self.written / self.speed - self.critical
        return rest / (len(self.rounds) + 1)

    @property
    def limit(self) -> float:
        """Return the speed-up over ReAct of tools that take no time."""
        alone = self.plan_delay * (len(self.rounds) + 1) + self.written / self.speed
        return self.paper.react / alone


def _critical(plan: Round) -> float:
    ends: list[float] = []
    for step in plan.steps:
        ends.append(step.seconds + max((ends[at - 1] for at in step.needs), default=0.0))
    return max(ends)


# Two searches, the answer compares. The search is the one of the next pattern, mean 0.61 s.
HOTPOT = Pattern(
    "parallel (HotpotQA)",
    Tables(7.12, 120, 4.42, 63, 4.00, 3.95),
    speed=50,
    rounds=(Round((Step("search", 0.50, (), 12), Step("search", 0.72, (), 12)), 6, 10),),
    answer=40,
)
# Eight searches: mean 0.61 s, the slowest 1.13 s. The paper calls it parallel, then aggregate.
MOVIES = Pattern(
    "parallel, then aggregate (Movie)",
    Tables(20.47, 230, 7.42, 160, 5.64, 5.47),
    speed=50,
    rounds=(
        Round(
            tuple(
                Step("search", seconds, (), 8)
                for seconds in (0.55, 0.42, 0.63, 0.35, 1.13, 0.50, 0.72, 0.58)
            ),
            6,
            10,
        ),
    ),
    answer=35,
)
# Three chains of search and math, and one more math of all three. The paper gives no latencies of
# tools here, but its streaming hides 5.03 s, so the longest chain takes at least as long.
_CHAINS = (
    *(Step("search", 3.0, (), 20) for _ in range(3)),
    *(Step("math", 1.5, (number,), 30) for number in (1, 2, 3)),
    Step("math", 1.5, (4, 5, 6), 40),
)
CHAINS = Pattern(
    "dependent chains (ParallelQA)",
    Tables(35.90, 470, 19.29, 370, 21.72, 16.69),
    speed=30,
    rounds=(Round(_CHAINS, 15, 30),),
    answer=105,
)
# Game of 24: three rounds of proposing and judging thoughts, both by a model, and keeping five.
# The tables give only the sum, 241.2 s: of 11 proposals and 11 judgements, one at a time.
_PROPOSE, _JUDGE = 12.0, 241.2 / 11 - 12.0


def _thoughts(states: int) -> tuple[Step, ...]:
    proposals = tuple(Step("propose", _PROPOSE, (), 10) for _ in range(states))
    judged = tuple(Step("judge", _JUDGE, (at,), 8) for at in range(1, states + 1))
    keep = Step("keep", 0.0, tuple(range(states + 1, 2 * states + 1)), 8 + 2 * states)
    return (*proposals, *judged, keep)


GAME = Pattern(
    "replanning (Game of 24)",
    Tables(241.2, 0, None, 0, None, 83.6),
    speed=20,
    rounds=(
        Round(_thoughts(1), 8, 6),
        Round(_thoughts(5), 20, 6),
        Round(_thoughts(5), 20, 6),
    ),
    answer=40,
    delay=0.8,
    tree=True,
)
PATTERNS = (HOTPOT, MOVIES, CHAINS, GAME)


@dataclass(frozen=True)
class Result:
    """Seconds of each way, and what follows."""

    pattern: str
    react: float
    parallel: float
    dagexec: float
    streaming: float
    paper: Tables
    limit: float

    @property
    def speedup(self) -> float:
        """Return how much faster streaming is than ReAct."""
        return self.react / self.streaming

    @property
    def overlap(self) -> float:
        """Return how much faster streaming is than a whole plan first."""
        return self.dagexec / self.streaming


# ------------------------------------------------------------------------------------- the script


def text_of(tokens: int, head: str = "", tail: str = "") -> str:
    """Return a text of so many tokens."""
    room = tokens * SIZE - len(head) - len(tail)
    assert room >= 0, f"{head}{tail} does not fit into {tokens} tokens"
    return head + "x" * room + tail


def plan_text(plan: Round, first: int, *, replan: bool) -> str:
    """Return a round's plan as the model writes it."""
    before = '{"action": "replan", "thought": "' if replan else "Thought: "
    lines = [text_of(plan.before, before, '"}\n' if replan else "\n")]
    for at, step in enumerate(plan.steps):
        used = "".join(f", ${first + need - 1}" for need in step.needs)[2:]
        context = f", [{used}]" if used else ""
        head, tail = f'{first + at}. {step.tool}("', f'"{context})\n'
        lines.append(text_of(step.tokens, head, tail))
    end = f"{first + len(plan.steps)}. join()<END_OF_PLAN>"
    thought = plan.behind * SIZE - len(end) >= 10  # room for "Thought: " and a line's end
    head = "Thought: " if thought else " "
    lines.append(text_of(plan.behind, head, ("\n" if thought else "") + end))
    return "".join(lines)


def tools_of(pattern: Pattern) -> list[Any]:
    """Return the tools; each call sleeps as its place in the pattern says."""
    box = ToolBox()
    waits: dict[str, list[float]] = {}
    for step in pattern.steps:
        waits.setdefault(step.tool, []).append(step.seconds)

    def taken(name: str) -> Callable[..., float]:
        left = iter(waits[name])
        return lambda **_: next(left)

    return [
        box.tool(name, seconds=taken(name), parameters=FREE, effect="read", returns="x")
        for name in waits
    ]


def native(steps: Sequence[Step], tokens: int, delay: float) -> Reply:
    """Return a reply with native calls that takes so many tokens in all."""
    calls = [(step.tool, {"text": "x"}) for step in steps]
    used = sum(-(-len(json.dumps(args)) // SIZE) for _, args in calls)
    return Reply(text=text_of(max(0, tokens - used)), calls=calls, delay=delay)


def levels(plan: Round) -> list[list[Step]]:
    """Return a plan's calls by level: those that have all that they need, and so on."""
    depth: list[int] = []
    for step in plan.steps:
        depth.append(1 + max((depth[at - 1] for at in step.needs), default=0))
    return [
        [step for step, level in zip(plan.steps, depth, strict=True) if level == at]
        for at in range(1, max(depth) + 1)
    ]


# -------------------------------------------------------------------------------------- four ways


async def timed(
    pattern: Pattern, planner: type[Any], replies: Sequence[Reply], *, stream: bool = False
) -> float:
    """Return the seconds of a whole conversation."""
    tools = tools_of(pattern)
    model = ScriptedModel(replies, speed=pattern.speed, size=SIZE)
    executor = Executor(tools, timeouts=Timeouts(call=None, workflow=None))
    solution = await solve(
        "question",
        planner=planner(tools),
        client=model.openai(),
        model="scripted",
        executor=executor,
        max_turns=len(replies),
        stream=stream,
    )
    assert solution.ok, solution.status
    assert all(report.ok for report in solution.reports), solution.reports
    assert sum(map(len, solution.reports)) == len(pattern.steps)
    assert model.left == 0
    return solution.elapsed


async def react(pattern: Pattern) -> float:
    """Return the seconds of the baseline."""
    if pattern.tree:
        tools = tools_of(pattern)
        executor = Executor(tools, concurrency=1, timeouts=Timeouts(call=None, workflow=None))
        calls = [Call(str(at), step.tool) for at, step in enumerate(pattern.steps)]
        return (await executor.run(calls)).elapsed
    turns = len(pattern.steps) + 1
    shares = [pattern.paper.react_tokens * at // turns for at in range(turns + 1)]
    tokens = [after - before for before, after in pairwise(shares)]
    delay = pattern.react_delay
    replies = [
        native([step], count, delay) for step, count in zip(pattern.steps, tokens, strict=False)
    ]
    replies.append(Reply(text=text_of(tokens[-1]), delay=delay))
    return await timed(pattern, ChatPlanner, replies)


async def parallel(pattern: Pattern) -> float:
    """Return the seconds of native parallel calls, a turn for each level."""
    turns = [level for plan in pattern.rounds for level in levels(plan)]
    total = pattern.paper.parallel_tokens or pattern.written
    rest = total - sum(step.tokens for step in pattern.steps)
    each = max(0, rest) // (len(turns) + 1)
    delay = pattern.react_delay
    scale = min(1.0, total / max(1, sum(step.tokens for step in pattern.steps)))
    replies = [
        native(level, int(scale * sum(step.tokens for step in level)) + each, delay)
        for level in turns
    ]
    replies.append(Reply(text=text_of(max(each, 1)), delay=delay))
    return await timed(pattern, ChatPlanner, replies)


async def planned(pattern: Pattern, *, stream: bool) -> float:
    """Return the seconds of plans as text."""
    replies, first = [], 1
    for number, plan in enumerate(pattern.rounds):
        text = plan_text(plan, first, replan=number > 0)
        replies.append(Reply(text=text, delay=pattern.plan_delay))
        first += len(plan.steps)
    answer = text_of(pattern.answer, '{"action": "finish", "answer": "', '"}')
    replies.append(Reply(text=answer, delay=pattern.plan_delay))
    return await timed(pattern, LLMCompilerPlanner, replies, stream=stream)


async def measured(pattern: Pattern) -> Result:
    """Run a pattern in all four ways."""
    return Result(
        pattern.name,
        await react(pattern),
        await parallel(pattern),
        await planned(pattern, stream=False),
        await planned(pattern, stream=True),
        pattern.paper,
        pattern.limit,
    )


async def measure_all() -> list[Result]:
    """Run all patterns."""
    return [await measured(pattern) for pattern in PATTERNS]
