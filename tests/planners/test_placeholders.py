"""A placeholder is refused with the way to refer to a result; real text is left alone."""

from __future__ import annotations

import ast
import json
import sysconfig
from pathlib import Path

import pytest

from dagexec import tool
from planners._core.placeholders import Placeholders

NAMES = ("search", "get_user", "get_weather", "read_file", "send_email", "math")


@tool(effect="read")
async def search(query: str) -> dict:
    """Search."""
    return {}


@tool(effect="read")
async def get_user(id: str, options: dict | None = None) -> dict:
    """Get."""
    return {}


TOOLS = [search, get_user]
PLACEHOLDERS = """\
<result of call 1>
TBD from previous step
{{output of search}}
RESULT_FROM_STEP_2
<output from call 2>
[result of step 1]
result of call 1
Result of call #1.
the output of the previous step
output from step 2
{{step_1.output}}
{{search.result}}
{{get_user.id}}
<search_result>
<user_id from get_user>
<the temperature from the first call>
TBD (from step 1)
TBD - result of call 1
<TBD>
to be determined from previous call
To be filled in after step 1
to be determined based on the result of the previous step
<insert result here>
<PLACEHOLDER>
PREVIOUS_STEP_OUTPUT
<previous_result>
{{previous.output}}
STEP_1_OUTPUT
call_1.result
$step1.output
<id from step 1>
[user id from previous call]
{{ result from call 1 }}
{result_of_call_1}
<result_1>
use result from call 1
<value returned by get_weather>
[Insert output of search here]
pending result of step 1
(result of call 1)
Summarize: <result of call 1>
https://x.test/users/{{id from step 1}}
placeholder for result of call 2
resultFromStep1
FROM_PREVIOUS_STEP
<to be filled from previous result>
{{tool_call_1.output}}
"<result of call 1>"
${step1.output}""".splitlines()
TEXTS = """\
<html>
search results
{{x}}
{{ user.name }}
{{ search }}
${HOME}
${1}
$1
$5
results of the election
result
The result of call 1 was surprising, so we went on.
TBD
Step 2
step 2 of the recipe
<div>result of call</div>
<result>
{{result}}
{"result": "x"}
last result of the season
the answer of the second question
the last search for meaning
https://example.com/search?q=result
{0}
print(result_from_step(1))
<search>
response from the server
Output of the command
the name of the first item
see above
data from the API
to be or not to be
to be determined
git log --oneline <previous release>..HEAD
SELECT output FROM steps WHERE id = 1
def output_of(step): return step.result
{% for step in steps %}{{ step.output }}{% endfor %}""".splitlines()


@pytest.fixture(scope="module")
def placeholders():
    """Return the detector of some tools."""
    return Placeholders(NAMES)


@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_a_placeholder_is_found(placeholders, text):
    """As models write them."""
    assert placeholders.match(text) is not None


@pytest.mark.parametrize("text", TEXTS)
def test_other_text_is_not(placeholders, text):
    """Code, templates, prose, and words that speak of results."""
    assert placeholders.match(text) is None


def test_real_text_is_left_alone(placeholders):
    """Of the standard library's texts, not one is taken for a placeholder.

    `python -m tests.benchmarks.placeholders` reads all that is installed.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    read = 0
    for name in ("asyncio", "email", "http", "unittest", "json", "logging"):
        for path in sorted((folder / name).glob("*.py"))[:40]:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    read += 1
                    assert placeholders.match(node.value) is None, path
    assert read > 3_000


def problems(wire, *calls, **options):
    """Return the problem of each call."""
    return [call.problem for call in wire.planner(TOOLS, **options).plan(wire.reply(*calls)).calls]


def test_a_call_with_one_is_answered_instead_of_run(wire):
    """The answer shows how to refer to the call that is meant; the other calls run."""
    first, second, third = problems(
        wire,
        ("search", {"query": "a"}),
        ("get_user", {"id": "<user_id from search>"}),
        ("get_user", {"id": "7", "options": {"a": ["x", "TBD from step 1"]}}),
    )
    assert first is None
    assert "the argument 'id' is a placeholder, \"<user_id from search>\"" in second
    assert '{"$ref": "1"}' in second
    assert '{"$literal": "..."}' in second
    assert "'options'" in third


def test_the_ways_out(wire):
    """A literal says that the text is meant; references and templates are no placeholders."""
    calls = [
        ("search", {"query": {"$literal": "<result of call 1>"}}),
        ("search", {"query": {"$template": "<result of call 1> ${1}"}}),
        ("search", {"query": {"$ref": "1"}}),
    ]
    assert problems(wire, *calls) == [None, None, None]
    plain = [("search", {"query": "<result of call 1>"})]
    assert problems(wire, *plain, placeholders=False) == [None]
    assert problems(wire, *plain, references=False) == [None]
    fresh = wire.planner(TOOLS, placeholders=False).fresh()
    assert fresh.plan(wire.reply(*plain)).calls[0].problem is None
    assert "placeholder" in problems(wire, *plain)[0]


def test_a_secret_is_not_shown(wire):
    """Not even where it is none."""

    @tool(secret=("password",))
    async def enter(password: str) -> None:
        """Enter."""

    call = wire.planner([enter]).plan(wire.reply(("enter", {"password": "<value from step 1>"})))[
        "1"
    ]
    assert "placeholder" in call.problem
    assert "value from" not in call.problem


def test_a_long_document_is_left_alone(wire):
    """A text that somebody writes about steps may speak of their results in brackets."""
    text = "How it works. " * 100 + "Pass <result of call 1> on."
    assert problems(wire, ("search", {"query": text})) == [None]
    assert json.dumps(text)
