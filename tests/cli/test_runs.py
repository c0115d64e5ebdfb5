"""The commands runs, show and resume, in processes of their own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from dagexec.cli._main import main
from dagexec.journal import Record, SqliteJournal

pytestmark = [pytest.mark.real_time, pytest.mark.timeout(240)]  # interpreters start
ROOT = Path(__file__).parent.parent.parent

TOOLS = """
from dagexec import ask, tool

@tool(approval=True)
async def pay(amount: int) -> str:
    return f"paid {amount}"

@tool
async def form(what: str) -> str:
    return f"{what}: {await ask(f'which {what}?')}"
"""
PLAN = {
    "calls": [
        {"id": "p", "tool": "pay", "args": {"amount": 5}},
        {"id": "f", "tool": "form", "args": {"what": "colour"}},
        {"id": "z", "tool": "pay", "args": {"amount": 1}, "after": ["p"]},
    ]
}


@pytest.fixture
def place(tmp_path):
    (tmp_path / "tools.py").write_text(TOOLS)
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    done = command(tmp_path, "run", "plan.json", "--tools", "tools.py", "--run-id", "r1")
    assert done.returncode == 1, done.stderr
    return tmp_path


def command(place: Path, *args: str, **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DAGEXEC_JOURNAL": "runs.db"}
    return subprocess.run(
        [sys.executable, "-m", "dagexec", *args],
        cwd=place,
        env=environment,
        text=True,
        capture_output=True,
        timeout=100,
        check=False,
        **options,
    )


def test_list_show_and_answer(place):
    """A run that waits is listed with what it waits for, and goes on with --answer."""
    listed = command(place, "runs")
    assert "r1 waiting" in listed.stdout
    assert "waiting for p, f" in listed.stdout
    assert json.loads(command(place, "runs", "--json").stdout)[0]["waiting_for"] == ["p", "f"]
    shown = command(place, "show", "r1")
    assert "? p pay" in shown.stdout
    assert "f: which colour?" in shown.stderr
    told = command(place, "resume", "r1", "--tools", "tools.py", "--answer", "f=red")
    assert told.returncode == 1
    report = json.loads(told.stdout)
    assert report["outcomes"]["f"]["value"] == "colour: red"
    answers = ["--answer", 'p=edit:{"amount": 9}']
    told = command(place, "resume", "r1", "--tools", "tools.py", *answers)
    assert json.loads(told.stdout)["outcomes"]["p"]["value"] == "paid 9"
    told = command(place, "resume", "r1", "--tools", "tools.py", "--answer", "z=approve")
    assert told.returncode == 0
    assert "r1 done" in command(place, "runs").stdout


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("resume", "r2", "--tools", "tools.py"), "knows no run 'r2'"),
        (("resume", "r1", "--tools", "tools.py", "--answer", "p"), "has no '='"),
        (("resume", "r1", "--tools", "tools.py", "--answer", "p=perhaps"), "is no answer"),
        (("resume", "r1", "--tools", "tools.py", "--answer", "x=approve"), "no call 'x'"),
        (("show", "r9"), "knows no run 'r9'"),
        (("runs", "--journal", "other.db"), "there is no journal"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(place, args, text):
    """Exit code 2, and the way out."""
    told = command(place, *args)
    assert told.returncode == 2
    assert text in told.stderr
    assert len(told.stderr.splitlines()) == 1
    assert not (place / "other.db").exists()


@pytest.mark.parametrize("answer", ["p=edit:{'token': 'hunter2'}", 'p edit:{"token": "hunter2"}'])
def test_an_edit_that_cannot_be_read_is_not_shown(place, answer):
    """It may hold a secret."""
    told = command(place, "resume", "r1", "--tools", "tools.py", "--answer", answer)
    assert told.returncode == 2
    assert "edit:…'" in told.stderr
    assert "hunter2" not in told.stderr


def test_at_a_terminal_it_asks(place):
    """One question after the other; what cannot be read is asked again."""
    master, slave = pty.openpty()
    os.write(master, b"perhaps\napprove\nblue\n\n")
    told = command(place, "resume", "r1", "--tools", "tools.py", stdin=slave)
    os.close(master)
    os.close(slave)
    outcomes = json.loads(told.stdout)["outcomes"]
    assert outcomes["p"]["value"] == "paid 5"
    assert outcomes["f"]["value"] == "colour: blue"
    assert outcomes["z"]["status"] == "pending"
    assert "is no answer" in told.stderr


def test_the_id_of_a_conversation(place):
    """Show and resume say that it is none of a run, and which its runs are."""
    kinds = {"t": "conversation", "t.1": "plan", "t2": "conversation"}

    async def record():
        with SqliteJournal(place / "runs.db") as journal:
            for run_id, kind in kinds.items():
                first = Record(kind, None, {"calls": [], "messages": []})
                await (await journal.claim(run_id, first)).release("waiting")

    anyio.run(record)
    for args in (("show", "t"), ("resume", "t", "--tools", "tools.py", "--answer", "1=approve")):
        told = command(place, *args)
        assert told.returncode == 2
        assert "'t' is a conversation and no run; its runs: 't.1'" in told.stderr
    assert "its runs: none yet" in command(place, "show", "t2").stderr
    assert "\nt waiting " in command(place, "runs").stdout


NESTED = """
from dagexec import Call, Executor, ask, tool

@tool(approval=True)
async def pay(amount: int) -> str:
    return f"paid {amount}"

@tool
async def form(what: str) -> str:
    return f"{what}: {await ask(f'which {what}?')}"

@tool
async def agent(amount: int) -> dict:
    from dagexec.journal import SqliteJournal
    calls = [Call("p", "pay", {"amount": amount}), Call("f", "form", {"what": "hat"})]
    inner = Executor([pay, form], journal=SqliteJournal("runs.db"))
    report = await inner.run(calls)
    report.raise_for_failures()
    return report.outputs
"""


def test_what_waits_inside_a_call(tmp_path):
    """It is shown with its name, and answered by it; in another process each time."""
    (tmp_path / "tools.py").write_text(NESTED)
    plan = {"calls": [{"id": "a", "tool": "agent", "args": {"amount": 5}}]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    command(tmp_path, "run", "plan.json", "--tools", "tools.py", "--run-id", "r1")
    told = command(tmp_path, "show", "r1")
    assert 'a/p: {"approve": "pay", "args": {"amount": 5}}' in told.stderr
    assert "a/f: which hat?" in told.stderr
    told = command(tmp_path, "resume", "r1", "--tools", "tools.py", "--answer", "a/f=red")
    assert "a/p:" in told.stderr
    assert "a/f:" not in told.stderr
    told = command(tmp_path, "resume", "r1", "--tools", "tools.py", "--answer", "a=approve")
    assert told.returncode == 0, told.stderr
    assert '"paid 5"' in told.stdout
    assert '"hat: red"' in told.stdout


DIES = """
import os
from dagexec import tool

@tool(effect="read")
async def look() -> int:
    return 1

@tool
async def pay(amount: int) -> str:
    if os.environ.get("DIES"):
        os._exit(9)
    return f"paid {amount}"
"""


def test_a_run_whose_process_died_says_what_to_do_next(tmp_path, monkeypatch, capsys):
    """In the list, in its picture, and in the help of resume: nothing is paid twice unasked."""
    (tmp_path / "tools.py").write_text(DIES)
    calls = [{"id": "a", "tool": "look"}, {"id": "p", "tool": "pay", "args": {"amount": 5}}]
    calls[1]["after"] = ["a"]
    (tmp_path / "plan.json").write_text(json.dumps({"calls": calls}))
    monkeypatch.setenv("DIES", "1")
    command(tmp_path, "run", "plan.json", "--tools", "tools.py", "--run-id", "r1")
    monkeypatch.delenv("DIES")
    monkeypatch.chdir(tmp_path)

    def said(*args: str) -> tuple[int, str, str]:
        return main(args), *capsys.readouterr()

    _, out, err = said("runs", "runs.db")
    assert "r1 stale" in out
    assert "dagexec resume RUN --tools FILE --journal runs.db" in err
    journal = ("--journal", "runs.db")
    _, out, err = said("show", "r1", *journal)
    assert "▶ p pay" in out
    assert "p: it was running when its process ended" in err
    assert json.loads(said("show", "r1", "--as", "json", *journal)[1])["underway"]["p"]
    told = said("resume", "r1", "--tools", "tools.py", "--no-input", *journal)[1]
    assert json.loads(told)["outcomes"]["p"]["status"] == "in_doubt"
    assert "runs AGAIN if it" in said("resume", "--help")[1]
    wrong = said("runs", "runs.db", "--journal", "other.db")
    assert (wrong[0], "two journals" in wrong[2]) == (2, True)
    assert "`dagexec runs runs.db` lists" in said("show", "runs.db")[2]


def test_a_program_goes_on_with_an_answer_in_another_process(tmp_path):
    (tmp_path / "tools.py").write_text(TOOLS)
    (tmp_path / "program.py").write_text("p = pay(5)\nprint(p)\n[p, form('colour')]\n")
    run = command(tmp_path, "run", "program.py", "--tools", "tools.py", "--run-id", "r1")
    assert run.returncode == 1
    resume = ("resume", "r1", "--tools", "tools.py")
    told = command(tmp_path, *resume, "--answer", "1=approve")
    assert told.returncode == 2
    assert "`dagexec resume --program FILE`" in told.stderr
    resume = (*resume, "--program", "program.py")
    told = command(tmp_path, *resume, "--answer", "1=approve")
    assert (told.returncode, json.loads(told.stdout)["printed"]) == (1, "paid 5\n")
    told = command(tmp_path, *resume, "--answer", "2=blue")
    assert told.returncode == 0, told.stderr
    result = {"result": ["paid 5", "colour: blue"], "printed": "paid 5\n", "error": None}
    assert json.loads(told.stdout) == result
