"""The command in process: exit codes, results, messages."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from dagexec.cli import main

TOOLS = str(Path(__file__).with_name("tools_for_cli.py"))
DEMO = Path(__file__).parents[2] / "planners" / "_demo"
CHAIN = [
    {"id": "s", "tool": "search", "args": {"query": "x"}},
    {"id": "u", "tool": "shout", "args": {"text": {"$ref": "s[0]"}}},
]


@pytest.fixture(autouse=True)
def _no_display(monkeypatch):
    monkeypatch.delenv("DAGEXEC_DISPLAY", raising=False)
    monkeypatch.delenv("DAGEXEC_CONCURRENCY", raising=False)


@pytest.fixture
def command(tmp_path, capsys):
    """Return a function that runs the command on a payload: exit code, stdout, stderr."""

    def run(name, payload, *options):
        file = tmp_path / "file.json"
        text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        file.write_bytes(text)
        code = main([name, str(file), *options])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


def test_a_plan_prints_its_report(command):
    """All done: 0, and the report as JSON is all of stdout."""
    code, out, err = command("run", {"calls": CHAIN}, "--tools", TOOLS)
    assert code == 0
    assert json.loads(out)["outcomes"]["u"]["value"] == "X-1"
    assert "2 calls: 2 done" in err


def test_a_bare_list_of_calls_is_a_plan(command):
    """As `Plan.from_dict` takes it."""
    code, out, _ = command("run", CHAIN, "--tools", TOOLS, "--json-indent", "2")
    assert code == 0
    assert out.startswith("{\n  ")


def test_a_failure_is_1_and_the_results_are_there(command):
    """Failed and skipped calls are named on stderr, once, the report is on stdout."""
    calls = [
        {"id": "f", "tool": "fail", "args": {"text": "no\nluck"}},
        {"id": "u", "tool": "shout", "args": {"text": {"$ref": "f"}}},
    ]
    code, out, err = command("run", calls, "--tools", TOOLS)
    assert code == 1
    assert json.loads(out)["outcomes"]["u"] == {"status": "skipped", "because": "f", "attempts": 0}
    assert err.count("ValueError: no luck") == 1
    assert "skipped because of f" in err


def test_timeouts_of_a_call_and_of_the_run(command):
    """--timeout is a call's, --workflow-timeout the run's; a tool's own comes first."""
    calls = [{"id": "w", "tool": "wait", "args": {"seconds": 40}}]
    code, out, _ = command("run", calls, "--tools", TOOLS, "--workflow-timeout", "0.05")
    assert code == 1
    assert json.loads(out)["outcomes"]["w"]["scope"] == "workflow"


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
def test_a_reply_is_recognised_and_answered(command, api):
    """Every call id is in the answer; unknown tools are the model's affair, so exit code 1."""
    payload = json.loads((DEMO / f"{api}.json").read_text("utf-8"))
    code, out, _ = command("run", payload, "--tools", TOOLS)
    assert code == 1
    answers = json.dumps(json.loads(out))
    ids = [each for each in _strings(payload) if each.startswith(("call_", "toolu_"))]
    assert ids
    assert all(answers.count(each) == 1 for each in ids)


def test_a_reply_can_give_its_report(command):
    """--report prints the report instead of the messages."""
    payload = json.loads((DEMO / "messages.json").read_text("utf-8"))
    _, out, _ = command("run", payload, "--tools", TOOLS, "--report")
    assert list(json.loads(out)["outcomes"]) == ["1", "2", "3", "4", "5"]


def test_planner_by_name(command):
    """--planner takes the place of recognising; an unknown one names those there are."""
    message = {
        "role": "assistant",
        "tool_calls": [
            {"id": "a", "function": {"name": "shout", "arguments": '{"text": "x"}'}},
        ],
    }
    code, out, _ = command("run", message, "--tools", TOOLS, "--planner", "openai-chat")
    assert code == 0
    assert json.loads(out)[0]["tool_call_id"] == "a"
    code, _, err = command("run", message, "--tools", TOOLS, "--planner", "nope")
    assert code == 2
    for name in ("anthropic", "openai-chat", "openai-responses"):
        assert name in err


def test_answer_needs_somebody_to_answer(command):
    """--answer of a plan is a usage error."""
    code, out, err = command("run", CHAIN, "--tools", TOOLS, "--answer")
    assert (code, out) == (2, "")
    assert "nobody to answer" in err


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"3", "neither a plan"),
        (b'{"a": 1}', "neither a plan"),
        (b'{"calls": 3}', "calls"),
        (b'{"calls": [{"id": "a"}]}', "tool"),
        (b'{"calls": [{"id": "a", "tool": "serch"}]}', "no tool 'serch'"),
        (b'{"calls": [{"id": "a", "tool": "shout", "args": {"txt": 1}}]}', "txt"),
    ],
)
def test_a_wrong_file_is_2_in_one_line(command, payload, said):
    """Cause in one line on stderr, nothing on stdout."""
    code, out, err = command("run", payload, "--tools", TOOLS)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("no_such_module_here", "ModuleNotFoundError"),
        ("no/such/file.py", "no such file"),
        (f"{TOOLS}:nothing", "nothing called 'nothing'"),
        ("json", "defines no tools"),
        (f"{TOOLS}:__doc__", "cannot be used"),
    ],
)
def test_wrong_tools_are_2_in_one_line(command, source, said):
    """As for files."""
    code, out, err = command("run", CHAIN, "--tools", source)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_tools_that_raise_on_import_name_the_line(command, tmp_path):
    """The user's own line, not importlib's."""
    (tmp_path / "broken_tools.py").write_text("\n1 / 0\n")
    code, _, err = command("run", CHAIN, "--tools", str(tmp_path / "broken_tools.py"))
    assert code == 2
    assert "ZeroDivisionError" in err
    assert "broken_tools.py, line 2" in err


def test_one_attribute_of_a_module(command):
    """A list may hold plain functions, which become tools."""
    calls = [{"id": "p", "tool": "plain", "args": {"text": "x"}}]
    code, _, _ = command("run", calls, "--tools", f"{TOOLS}:chosen")
    assert code == 0


def test_a_missing_file(capsys):
    """Named, without a traceback."""
    assert main(["show", "no-such-file.json"]) == 2
    assert "cannot read 'no-such-file.json'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nope"],
        ["run"],
        ["run", "-", "--tools", "x", "--timeout", "soon"],
        ["run", "-", "--tools", "x", "--timeout", "-1"],
        ["run", "-", "--tools", "x", "--concurrency", "many"],
        ["demo", "now"],
    ],
)
def test_wrong_usage_is_2(argv, capsys):
    """Returned, not raised."""
    assert main(argv) == 2
    capsys.readouterr()


def test_help_lists_what_there_is(capsys):
    """Every command, in one line each."""
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in ("run", "show", "check", "demo", "doctor", "serve", "runs", "resume"):
        assert f"\n    {name} " in out
    assert main(["--version"]) == 0
    assert main(["demo", "--help"]) == 0


def test_stdin(monkeypatch, capsys):
    """`-` reads the plan from stdin."""
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(CHAIN).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["show", "-"]) == 0
    assert "u shout" in capsys.readouterr().out


def test_show(command):
    """Text, mermaid and JSON; of a plan, of a reply without its tools, of a report."""
    assert "<- s" in command("show", CHAIN)[1]
    assert command("show", CHAIN, "--as", "mermaid")[1].startswith("flowchart LR")
    assert json.loads(command("show", CHAIN, "--as", "json")[1])["edges"] == [["s", "u"]]
    reply = json.loads((DEMO / "chat.json").read_text("utf-8"))
    assert "5 write_note   <- 1, 2" in command("show", reply)[1]
    report = json.loads(command("run", CHAIN, "--tools", TOOLS)[1])
    assert "✓ u shout" in command("show", report)[1]
    assert "█" in command("show", report, "--timeline")[1]
    assert command("show", report, "--timeline", "--as", "mermaid")[1].startswith("gantt")
    assert command("show", report, "--as", "svg")[1].startswith("<svg ")
    code, _, err = command("show", CHAIN, "--timeline")
    assert (code, err.count("--timeline")) == (2, 1)


def test_check_names_every_problem_on_a_line(command):
    """Of the graph and of the tools together; a good plan says so and is 0."""
    bad = [
        {"id": "a", "tool": "serch", "args": {"query": "x"}},
        {"id": "a", "tool": "shout", "args": {"text": {"$ref": "zz"}, "n": 1}},
    ]
    code, out, _ = command("check", bad, "--tools", TOOLS)
    assert code == 2
    assert len(out.splitlines()) == 4
    assert len(command("check", bad)[1].splitlines()) == 2
    code, out, err = command("check", CHAIN, "--tools", TOOLS)
    assert (code, out) == (0, "")
    assert "no problems" in err


def test_check_of_a_reply(command):
    """The problems of a model's calls; without tools only those of the graph."""
    reply = json.loads((DEMO / "responses.json").read_text("utf-8"))
    assert command("check", reply)[0] == 0
    code, out, _ = command("check", reply, "--tools", TOOLS)
    assert code == 2
    assert "There is no tool 'fetch'" in out


def test_names_cannot_move_the_cursor(command):
    """Neither in drawings nor in problems, nor on stderr, nor in JSON."""
    evil = "\x1b[2J\x9b\u202ex"
    calls = [{"id": evil, "tool": "fail", "args": {"text": evil}}]
    for name, options in (
        ("run", ("--tools", TOOLS)),
        ("show", ()),
        ("show", ("--as", "json")),
        ("show", ("--as", "mermaid")),
        ("check", ("--tools", f"{TOOLS}:chosen")),
    ):
        _, out, err = command(name, calls, *options)
        assert not set("\x1b\x9b\u202e") & set(out + err)


def test_display_none_says_nothing(command, monkeypatch):
    """By option and by environment variable."""
    assert command("run", CHAIN, "--tools", TOOLS, "--display", "none")[2] == ""
    monkeypatch.setenv("DAGEXEC_DISPLAY", "none")
    assert command("run", CHAIN, "--tools", TOOLS)[2] == ""


def _strings(value):
    if isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, str):
        yield value


def run_program(tmp_path, capsys, name, text, *options):
    """Run the command on a program: exit code, stdout, stderr."""
    file = tmp_path / "program.py"
    file.write_text(text, "utf-8")
    code = main([name, str(file), *options])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def test_a_program_prints_what_it_came_to(tmp_path, capsys):
    """Its value, what it printed, its error; the report if it is asked for."""
    text = "rows = search('x') + search('y')\nprint(len(rows))\n[shout(r) for r in rows]\n"
    code, out, err = run_program(tmp_path, capsys, "run", text, "--tools", TOOLS)
    assert code == 0
    wanted = {"result": ["X-1", "X-2", "Y-1", "Y-2"], "printed": "4\n", "error": None}
    assert json.loads(out) == wanted
    assert "6 calls: 6 done" in err
    code, out, _ = run_program(tmp_path, capsys, "run", text, "--tools", TOOLS, "--report")
    assert len(json.loads(out)["outcomes"]) == 6


def test_what_is_no_json_is_printed_as_json(tmp_path, capsys):
    """Dates as texts and sets as lists, as the model gets them."""
    text = "import datetime\n{'day': datetime.date(2024, 1, 2), 'set': {1}}"
    code, out, err = run_program(tmp_path, capsys, "run", text, "--tools", TOOLS)
    assert (code, json.loads(out)["result"]) == (0, {"day": "2024-01-02", "set": [1]}), err


def test_a_program_that_fails_is_1_with_its_line(tmp_path, capsys):
    """What it printed before is there."""
    text = "print('a')\nfail('no')\n"
    code, out, _ = run_program(tmp_path, capsys, "run", text, "--tools", TOOLS)
    assert code == 1
    assert json.loads(out)["printed"] == "a\n"
    assert "line 2: ToolError: ValueError: no" in json.loads(out)["error"]


def test_a_program_that_is_none_is_2(tmp_path, capsys):
    """`check` names every reason, `run` the first."""
    code, out, err = run_program(tmp_path, capsys, "check", "import os\nwith a: pass\n")
    assert (code, len(out.splitlines())) == (2, 2)
    assert "line 2" in out
    code, _, err = run_program(tmp_path, capsys, "run", "import os\n", "--tools", TOOLS)
    assert code == 2
    assert "there is no module os" in err
    assert run_program(tmp_path, capsys, "check", "x = 1\n")[0] == 0
