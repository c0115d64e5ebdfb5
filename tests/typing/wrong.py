"""What type checkers must refuse; a refusal that has gone is an error of `make lint`.

Both checkers read `# type: ignore[...]` with mypy's codes: mypy refuses one that has nothing to
hide, and with `reportUnnecessaryTypeIgnoreComment` pyright does.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=error
from __future__ import annotations

from dagexec import Call, Executor, Plan, Ref, Report, Timeouts, tool
from dagexec.journal import MemoryJournal
from dagexec.limits import Limiter, Rate, Retry
from planners import Planner, solve
from planners.openai import ChatPlanner


@tool
def add(a: int, b: int = 0) -> int:
    """Add."""
    return a + b


@tool(effect="read")
async def search(query: str) -> list[str]:
    """Search."""
    return [query]


class Account:
    """Has a tool for a method."""

    @tool
    def pay(self, amount: int) -> str:
        """Pay."""
        return str(amount)


def tools() -> None:
    """A tool takes what its function takes, and returns what that returns."""
    add("1")  # type: ignore[arg-type]
    add(1, c=2)  # type: ignore[call-arg]
    Account().pay("1")  # type: ignore[arg-type]
    text: str = add(1)  # type: ignore[assignment]
    print(text)
    add.call("a", "1")  # type: ignore[arg-type]
    add.call("a", 1, c=2)  # type: ignore[call-arg]
    search.call("a")  # type: ignore[call-arg]
    Account().pay.call("a", amount="1")  # type: ignore[arg-type]
    tool(effect="readonly")  # type: ignore[call-overload]
    tool(efect="read")  # type: ignore[call-overload]
    tool(timeout="5")  # type: ignore[call-overload]
    tool(runs="elsewhere")  # type: ignore[call-overload]
    add.name = "other"  # type: ignore[misc]


async def an_async_tool_has_to_be_awaited() -> None:
    """Its call gives a coroutine."""
    found: list[str] = search("x")  # type: ignore[assignment]
    print(found)


def plans() -> None:
    """Calls, references and plans cannot be changed, nor made of anything else."""
    Call("a")  # type: ignore[call-arg]
    Call("a", "add", ["x"])  # type: ignore[arg-type]
    Call(1, "add")  # type: ignore[arg-type]
    Ref("a", "items")  # type: ignore[arg-type]
    Plan("a")  # type: ignore[arg-type]
    Plan([{"id": "a", "tool": "add"}])  # type: ignore[list-item]
    Call("a", "add").id = "b"  # type: ignore[misc]


async def runs(executor: Executor, report: Report) -> None:
    """Settings and results."""
    Executor([add], on_failure="ignore")  # type: ignore[arg-type]
    Executor([add], timeouts="30")  # type: ignore[arg-type]
    Executor([add], journal="runs.db")  # type: ignore[arg-type]
    Executor([add], Timeouts())  # type: ignore[call-arg]
    Timeouts(step=3)  # type: ignore[call-arg]
    early: Report = executor.run(Plan())  # type: ignore[assignment]
    print(early)
    await executor.run("plan.json")  # type: ignore[arg-type]
    await executor.resume(Plan())  # type: ignore[arg-type]
    print(report[0])  # type: ignore[index]
    print(report["a"].output)  # type: ignore[attr-defined]
    if report["a"].status == "finished":  # type: ignore[comparison-overlap]
        print("never")
    report["a"] = report["b"]  # type: ignore[index]
    report["a"].value = 3  # type: ignore[misc]


def limits() -> None:
    """Their settings too."""
    Limiter("key", rates={"requests": "500"})  # type: ignore[dict-item]
    Limiter("key", oversize="drop")  # type: ignore[arg-type]
    Rate("500")  # type: ignore[arg-type]
    Retry(3, 0.5)  # type: ignore[call-arg]


async def planner(planner: Planner, client: object, executor: Executor) -> None:
    """What `solve` needs is named, and a planner reads the tools that it is given."""
    ChatPlanner()  # type: ignore[call-arg]
    ChatPlanner([add], reference=True)  # type: ignore[call-arg]
    await solve("Why?", planner=planner, client=client, model="m")  # type: ignore[call-arg]
    await solve("?", planner, client=0, model="m", executor=executor)  # type: ignore[call-arg]
    answer: int = await solve(  # type: ignore[assignment]
        "Why?", planner=planner, client=client, model="m", executor=executor
    )
    print(answer)
    await MemoryJournal().claim(3)  # type: ignore[arg-type]
