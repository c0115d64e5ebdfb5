"""The workflow of a call: an attempt of this worker, and its intents, which are steps.

A write starts when its intent is recorded. A workflow that is recovered, because its worker died,
finds the intents of those who died over it: then the call is in doubt, or runs again, as its effect
says. A worker that only seemed dead can record nothing any more, because DBOS gave its workflow
away, so it starts nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, final

from dbos import DBOS

from dagexec import Executor, RunOwned
from dagexec.engines._front import DEATHS
from dagexec.engines._one import Attempt, assignment_of
from dagexec.engines.dbos._here import BEHIND
from dagexec.engines.dbos._site import Site
from dagexec.engines.dbos._sizes import result_text
from dagexec.engines.dbos._traces import below
from dagexec.engines.dbos._workflows import id_of, refuse_fork, step

_log: Final = logging.getLogger("dagexec")

Done: TypeAlias = "Callable[[Exception | None], None]"
Running: TypeAlias = "asyncio.Task[dict[str, Any]]"
Intents: TypeAlias = "asyncio.Queue[tuple[str, Done]]"


@final
class Calls:
    """The calls that this process runs."""

    def __init__(self, site: Site, executor: Executor) -> None:
        """Start with none."""
        self._site = site
        self._executor = executor
        # By the id of the round that they belong to.
        self._attempts: dict[str, list[Attempt]] = {}

    async def run(self, text: str) -> str:
        """Run one call to its outcome."""
        site = self._site
        own = str(DBOS.workflow_id)
        body = site.types.loads(text)
        refuse_fork(own, site.name, body["run"], body["round"], body["call"])

        def ended() -> None:
            site.bell.end()
            site.news.tell_ended(body["asks"], own)

        site.enter(own, ended)
        site.bell.begin(many=body["many"])
        if body["tool"] not in self._executor.tools:
            await self._pass_on(own, body)
        whole = id_of(site.name, body["run"], body["round"])
        marks: list[str] = await site.outside(_intents(own))
        for count in range(len(marks)):
            await step(f"intent:{count + 1}", _gone)
        intents: Intents = asyncio.Queue()
        attempt = Attempt(
            self._executor,
            assignment_of(body),
            types=site.types,
            clock=site.database.now,
            marks=[*body["marks"], *marks],
            intend=lambda mark, done: intents.put_nowait((mark, done)),
        )
        attempts = self._attempts.setdefault(whole, [])
        attempts.append(attempt)
        run = self._look if self._only_looks(body["tool"]) else self._attempt
        running: Running = site.start(below(body, attempt.run()))
        try:
            result = await run(running, intents, len(marks))
            return result_text(site.types, result, reruns=self._reruns(body["tool"]))
        finally:
            attempts.remove(attempt)
            if not attempts:
                self._attempts.pop(whole, None)

    async def _pass_on(self, own: str, body: Mapping[str, Any]) -> None:
        """Leave a call to a worker that has its tool; return if none was found in many tries."""
        if await self._site.database.pass_on(own, DEATHS):
            _log.warning(
                "this worker has no tool %r, which call %r needs: it is passed on",
                body["tool"],
                body["call"],
            )
            raise asyncio.CancelledError

    def _reruns(self, name: str) -> bool:
        tool = self._executor.tools.get(name)
        return tool is not None and tool.effect.reruns

    def _only_looks(self, name: str) -> bool:
        tool = self._executor.tools.get(name)
        return tool is not None and tool.effect.eager

    async def _attempt(self, running: Running, intents: Intents, count: int) -> dict[str, Any]:
        """Let an attempt run, and record its intents in steps of this workflow."""
        try:
            while (intent := await _next(running, intents)) is not None:
                mark, done = intent
                count += 1
                try:
                    await step(f"intent:{count}", _same, mark)
                except Exception as error:
                    # Another worker has this call: what runs here must not begin, or go on.
                    done(RunOwned(f"the call runs elsewhere: {error}"))
                    raise
                done(None)
            return running.result()
        finally:
            running.cancel()
            await asyncio.wait((running,))

    async def _look(self, running: Running, intents: Intents, count: int) -> dict[str, Any]:
        """Let an attempt run that changes nothing: its intents are recorded behind its starts."""
        try:
            while (intent := await _next(running, intents)) is not None:
                mark, done = intent
                done(None)
                await asyncio.wait((running,), timeout=BEHIND)
                if not running.done():
                    count += 1
                    await step(f"intent:{count}", _same, mark)
            return running.result()
        finally:
            running.cancel()
            await asyncio.wait((running,))

    # ------------------------------------------------------------------------------------- stopping

    async def watch(self) -> None:
        """Stop the attempts of rounds that were stopped, elsewhere."""
        for whole in [*self._attempts]:
            stop = await DBOS.get_event_async(whole, "stop", timeout_seconds=0)
            if stop is not None:
                self.stop(whole, stop["because"])

    def stop(self, whole: str, because: str | None) -> None:
        """Stop the attempts of a round."""
        for attempt in [*self._attempts.get(whole, ())]:
            attempt.stop(because)


async def _next(running: Running, intents: Intents) -> tuple[str, Done] | None:
    """Return the next intent of an attempt, None once it has ended."""
    asked = asyncio.ensure_future(intents.get())
    await asyncio.wait((running, asked), return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        return asked.result()
    asked.cancel()
    await asyncio.wait((asked,))
    return None


async def _intents(own: str) -> list[str]:
    steps = await DBOS.list_workflow_steps_async(own)
    return [str(each["output"]) for each in steps if each["function_name"].startswith("intent:")]


async def _same(value: str) -> str:
    return value


async def _gone() -> str:
    msg = "an intent that was recorded is not there any more"
    raise RuntimeError(msg)
