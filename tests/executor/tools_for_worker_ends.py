"""Tools that fork, ask from several threads, start slowly, or leave things behind."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

from dagexec import Call, Executor, current_call, tool

if (seconds := os.environ.get("DAGEXEC_TEST_IMPORT")) is not None:
    time.sleep(float(seconds))  # as large libraries do


@tool(runs="process", effect="write")
def echo(x: str) -> str:
    """Return it."""
    return x


@tool(runs="process", effect="read")
def pid() -> int:
    """Return the id of the process."""
    return os.getpid()


@tool(runs="process", effect="write")
def forks(x: str, how: str) -> str:
    """Fork; the child comes back out of the tool, somehow."""
    if os.fork() == 0:
        if how == "return":
            return x + " (child)"
        if how == "raise":
            raise ValueError(x)
        sys.exit(3)
    time.sleep(0.3)
    return x


@tool(runs="process", effect="write")
def forks_in_a_thread(x: str) -> str:
    """The thread's child comes back out of the thread."""
    thread = threading.Thread(target=os.fork)
    thread.start()
    thread.join(0.5)
    return x


@tool(runs="process", effect="read")
def forked_plan() -> str:
    """Run a plan in a forked child, and one here."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        report = executor().run_sync([Call("a", "twice", {"n": 5})])
        os.write(writer, str(report["a"].value).encode())
        os._exit(0)
    os.wait()
    report = executor().run_sync([Call("a", "twice", {"n": 6})])
    return f"{os.read(reader, 10).decode()} {report['a'].value}"


@tool(effect="read")
def twice(n: int) -> int:
    """Double, where the executor is."""
    time.sleep(0.01)
    return 2 * n


@tool(runs="process", effect="read")
def asks_in_threads(count: int, turns: int) -> list[list[int]]:
    """Run plans from several threads side by side."""
    got = [[] for _ in range(count)]

    def work(number: int) -> None:
        for turn in range(turns):
            report = executor().run_sync([Call("a", "twice", {"n": 100 * number + turn})])
            got[number].append(report["a"].value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return got


@tool(runs="process", effect="write")
def leaves_a_thread_that_asks() -> str:
    """Return while a daemon thread runs a plan."""
    plan = [Call("a", "twice", {"n": 1})]
    threading.Thread(target=lambda: executor().run_sync(plan), daemon=True).start()
    return "left"


@tool(runs="process", effect="write")
def leaves_a_thread_that_tells() -> str:
    """Return while a daemon thread goes on to tell of progress and to ask."""
    context = current_call()

    def work() -> None:
        while True:
            context.progress(1)
            time.sleep(0.001)

    threading.Thread(target=work, daemon=True).start()
    return "left"


@tool(runs="process", effect="read")
def starts_children(folder: str, how: str) -> None:
    """Start children for ever, as fast as it can, until it is killed."""
    code = (
        "import os, sys, time;"
        "open(os.path.join(sys.argv[1], str(os.getpid())), 'w');"
        "time.sleep(600)"
    )
    first = True
    while True:
        if how == "fork":
            if os.fork() == 0:
                os.setsid()
                (Path(folder) / str(os.getpid())).touch()
                time.sleep(600)
                os._exit(0)
            time.sleep(0.001)
        elif how == "chain":
            while True:
                (Path(folder) / str(os.getpid())).touch()
                if os.fork():
                    if first:
                        time.sleep(600)
                    os._exit(0)
                first = False
                os.setsid()
        else:
            subprocess.Popen(
                [sys.executable, "-S", "-c", code, folder],
                env={} if how == "no environment" else None,
                start_new_session=True,
            )


class Unreadable:
    """Pickles, and cannot be read again."""

    def __reduce__(self):
        return int, ("no number",)


@tool(runs="process", effect="write")
def pays(path: str, kind: str) -> object:
    """Do something, and return what cannot travel."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write("paid\n")
    return {
        "lock": threading.Lock(),
        "unreadable": Unreadable(),
        "nested": [{"a": threading.Lock()}],
        "generator": (threading.Lock() for _ in range(2)),
        "fine": pickle.dumps(1),
    }[kind]


def executor() -> Executor:
    """Return the executor that is meant here: only its tools' names count."""
    return Executor(ALL)


ALL = [
    echo,
    pid,
    forks,
    forks_in_a_thread,
    forked_plan,
    twice,
    asks_in_threads,
    leaves_a_thread_that_asks,
    leaves_a_thread_that_tells,
    starts_children,
    pays,
]
