"""Run the tests of core, planners and journal on other Pythons, and on the oldest libraries.

    python .ci/versions.py           each Python that pyproject.toml names, and newer ones, if here
    python .ci/versions.py --floors  the lowest versions of all dependencies that it allows, and
                                     those of the frameworks that have an adapter

Says which ran. With DAGEXEC_REQUIRE_INTEGRATION=1, as in .ci/run, a Python that a classifier names
and that is not here is an error: classifiers name what was tried. Everything is made below
`.venv-versions`; needs Python 3.11 and pip's package index.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".venv-versions"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
# Beside those that classifiers name: one that is here is tried, whether or not it is promised.
NEWER = ("3.14",)
CORE = ("tests/scheduler", "tests/executor", "tests/journal", "tests/tools")
PLANNERS = ("tests/planners",)
# In virtual time, and nothing that measures; what needs threads, forks and processes is tried by a
# few that are quick.
VIRTUAL = "not slow and not real_time and not integration and not costs"
# What the adapters for frameworks promise, on the oldest of them; the newest are in `make test`.
FRAMEWORKS = {
    "adk": "tests/integrations/adk/test_plugin.py",
    "openai-agents": "tests/integrations/openai_agents/test_dag_agent.py",
    "pydantic-ai": "tests/integrations/pydantic_ai/test_dag.py",
}
REAL = (
    "tests/executor/test_threads.py",
    "tests/executor/test_forks.py",
    "tests/journal/test_codec_more.py",
)


class Result(NamedTuple):
    """How one environment did."""

    name: str
    seconds: float
    output: str
    failure: str = ""


def named() -> list[str]:
    """Return the Pythons that classifiers name, but the one that everything runs on."""
    found = [
        match[1]
        for each in PROJECT["project"]["classifiers"]
        if (match := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", each))
    ]
    lowest = PROJECT["project"]["requires-python"].removeprefix(">=")
    return [version for version in found if version != lowest]


def python(version: str) -> str | None:
    """Return a Python of this version that runs and can make an environment."""
    home = Path.home()
    root = os.environ.get("PYENV_ROOT", str(home / ".pyenv"))
    places = [
        f"{root}/versions/{version}.*/bin/python{version}",
        f"{home}/.local/share/uv/python/cpython-{version}*/bin/python{version}",
        f"/opt/*/bin/python{version}",
        f"/usr/local/bin/python{version}",
    ]
    code = f"import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"
    # A version manager's shim may be on the PATH and have nothing behind it: so each is tried.
    for candidate in (f"python{version}", *[found for each in places for found in glob(each)]):
        try:
            tried = subprocess.run([candidate, "-c", code], capture_output=True, check=False)
        except OSError:
            continue
        if tried.returncode == 0:
            return candidate
    return None


def lowest(requirements: list[str]) -> list[str]:
    """Return the lowest versions that requirements allow, as pip's constraints."""
    return [re.sub(r"\s*>=\s*", "==", each.partition(";")[0]) for each in requirements]


def floors() -> list[str]:
    """Return the lowest versions that pyproject.toml allows."""
    extras = PROJECT["project"]["optional-dependencies"]
    return lowest([*PROJECT["project"]["dependencies"], *extras["trio"]])


def run(
    name: str,
    interpreter: str,
    tests: tuple[str, ...],
    constraints: list[str],
    *,
    extras: str = "trio",
    chosen: str = VIRTUAL,
    real: tuple[str, ...] = REAL,
) -> Result:
    """Make an environment, run the tests in it, and return how that went."""
    began, folder = time.monotonic(), PLACE / name
    folder.mkdir(parents=True, exist_ok=True)
    limits = folder / "constraints.txt"
    limits.write_text("\n".join(constraints) + "\n", "utf-8")
    inside = str(folder / "bin" / "python")
    pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    group = f"{ROOT / 'pyproject.toml'}:versions"
    pytest = [inside, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    commands = [
        [interpreter, "-m", "venv", str(folder)],
        [*pip, "--upgrade", "pip>=25.1"],
        [*pip, "--constraint", str(limits), "--group", group, "--editable", f"{ROOT}[{extras}]"],
        [inside, "--version"],
        [*pytest, "-m", chosen, *tests],
        *([[*pytest, "-m", "not slow", *real]] if real else []),
    ]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("DAGEXEC_")
    }
    environment["DAGEXEC_SAME_EXAMPLES"] = os.environ.get("DAGEXEC_REQUIRE_INTEGRATION", "")
    # What differs here is Python and libraries; more examples are tried in `make test`.
    environment["DAGEXEC_EXAMPLES"] = "10"
    output = ""
    for command in commands:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        output += done.stdout
        if done.returncode:
            failure = f"{' '.join(command)}: exit code {done.returncode}"
            return Result(name, time.monotonic() - began, output, failure)
    return Result(name, time.monotonic() - began, output)


def on_other_pythons() -> int:
    """Run them on each Python that is here; return an exit code."""
    wanted = {version: python(version) for version in dict.fromkeys((*named(), *NEWER))}
    for version, found in wanted.items():
        print(f"Python {version}: {found or 'not on this machine'}", flush=True)
    tests = (*CORE, *PLANNERS)
    with ThreadPoolExecutor(2) as pool:
        results = list(
            pool.map(
                lambda each: run(f"python{each[0]}", each[1], tests, []),
                [(version, found) for version, found in wanted.items() if found],
            )
        )
    code = report(results)
    missing = [version for version in named() if wanted[version] is None]
    if missing:
        print(f"classifiers name Pythons that are not here: {', '.join(missing)}")
        if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") == "1":
            return 1
    return code


def on_floors() -> int:
    """Run the tests of core and adapters on the lowest versions; return an exit code."""
    constraints = floors()
    extras = PROJECT["project"]["optional-dependencies"]
    frameworks = lowest([each for name in FRAMEWORKS for each in extras[name]])
    print("\n".join([*constraints, *frameworks]), flush=True)
    adapters = run(
        "frameworks",
        sys.executable,
        tuple(FRAMEWORKS.values()),
        frameworks,
        extras=",".join(("trio", *FRAMEWORKS)),
        chosen="not slow and not real_time",
        real=(),
    )
    return report([run("floors", sys.executable, CORE, constraints), adapters])


def report(results: list[Result]) -> int:
    """Print how it went, in full what failed; return an exit code."""
    for each in results:
        lines = each.output.rstrip().splitlines()
        if not each.failure:
            lines = [line for line in lines if re.search(r" passed|^Python|^RERUN", line)]
        print(f"\n-- {each.name}", *lines, each.failure, sep="\n")
    for each in results:
        print(f"{each.name}: {'FAILED' if each.failure else 'passed'} in {each.seconds:.0f} s")
    return int(any(each.failure for each in results))


if __name__ == "__main__":
    sys.exit(on_floors() if "--floors" in sys.argv else on_other_pythons())
