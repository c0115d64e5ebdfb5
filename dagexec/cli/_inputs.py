"""What the commands are given: files, tools, planners."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol, cast

import dagexec
from dagexec import Outcome
from dagexec._core.plan import Plan
from dagexec._errors import DagexecError, ToolDefinitionError
from dagexec._tools.tool import Tool, as_tools

ANYTHING: Final = {"type": "object", "additionalProperties": True}


class UsageError(DagexecError):
    """What the user asked for cannot be done as asked."""


class Planner(Protocol):
    """What the command needs of a planner; the entry points `dagexec.planners` name the classes."""

    def plan(self, response: Any) -> Plan:
        """Return the calls of a reply."""
        ...

    def results(self, report: Mapping[str, Outcome]) -> list[Any]:
        """Return what goes back to the model."""
        ...


def read(file: str) -> Any:
    """Return the JSON of a file, or the text of one that a planner reads; `-` for stdin.

    Raises UsageError.
    """
    shown = "stdin" if file == "-" else repr(file)
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"cannot read {shown}: {reason}"
        raise UsageError(msg) from None
    if raw.startswith(b"SQLite format 3\0"):
        msg = (
            f"{shown} is a journal: `dagexec runs {file}` lists its runs, and `dagexec show RUN"
            f" --journal {file}` draws one"
        )
        raise UsageError(msg)
    text = raw.decode("utf-8-sig", "replace")
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if any(each.recognises(text) for each in planner_classes().values()):
            return text
        msg = f"{shown} is not JSON: {error}"
        raise UsageError(msg) from None


# ------------------------------------------------------------------------------------------- tools


def load_tools(source: str) -> list[Tool[..., Any]]:
    """Return the tools of a module, a path or one attribute of either; raise UsageError."""
    place, attribute = _split(source)
    module = _imported(place)
    if attribute:
        if not hasattr(module, attribute):
            msg = f"{place!r} has nothing called {attribute!r}"
            raise UsageError(msg)
        items = _listed(getattr(module, attribute)) or [getattr(module, attribute)]
    else:
        items = _listed(getattr(module, "tools", None))
        items += [item for item in vars(module).values() if isinstance(item, Tool)]
    unique = list({id(item): item for item in items}.values())
    if not unique:
        msg = f"{source!r} defines no tools: decorate functions with @dagexec.tool"
        raise UsageError(msg)
    try:
        return list(as_tools(unique).values())
    except ToolDefinitionError as error:
        msg = f"the tools of {source!r} cannot be used: {error}"
        raise UsageError(msg) from None


def _listed(found: object) -> list[Any]:
    return list(cast("list[Any]", found)) if isinstance(found, list | tuple) else []


def _split(source: str) -> tuple[str, str]:
    head, colon, tail = source.rpartition(":")
    # Not the colon of a drive letter or inside a path.
    return (head, tail) if colon and tail.isidentifier() and len(head) > 1 else (source, "")


def _imported(place: str) -> ModuleType:
    path = Path(place)
    is_path = path.suffix == ".py" or len(path.parts) > 1
    if is_path and not path.is_file():
        msg = f"cannot read the tools from {place!r}: there is no such file"
        raise UsageError(msg)
    try:
        return _from_path(path) if is_path else _from_name(place)
    except (Exception, SystemExit) as error:
        msg = f"cannot import the tools from {place!r}: {_cause(error)}"
        raise UsageError(msg) from error


def _from_name(name: str) -> ModuleType:
    # As `python -m` does; an installed command has its own folder there instead.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _from_path(path: Path) -> ModuleType:
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        msg = "it is no Python file"
        raise ImportError(msg)
    module = importlib.util.module_from_spec(spec)
    # Pickles and annotations look the module up by its name.
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def _cause(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename]
    mine = [frame for frame in own if frame.filename != __file__]
    where = f" ({mine[-1].filename}, line {mine[-1].lineno})" if mine else ""
    return f"{type(error).__name__}: {error}{where}"


# ---------------------------------------------------------------------------------------- planners


def planner_classes() -> dict[str, Any]:
    """Return the installed planners by name; raise UsageError for one that cannot be imported."""
    found: dict[str, Any] = {}
    for entry in sorted(entry_points(group="dagexec.planners"), key=lambda entry: entry.name):
        try:
            found[entry.name] = entry.load()
        except Exception as error:
            msg = f"the planner {entry.name!r} cannot be loaded: {type(error).__name__}: {error}"
            raise UsageError(msg) from error
    return found


def chosen_planner(payload: Any, name: str | None) -> Callable[..., Planner] | None:
    """Return the planner that reads this reply, or None if it is a plan; raise UsageError."""
    if name is None and _is_plan(payload):
        return None
    classes = planner_classes()
    names = ", ".join(classes) or "none"
    if name is not None:
        if name not in classes:
            msg = f"there is no planner {name!r}; there are: {names}"
            raise UsageError(msg)
        named: Callable[..., Planner] = classes[name]
        return named
    fitting = {key: each for key, each in classes.items() if each.recognises(payload)}
    if len(fitting) == 1:
        only: Callable[..., Planner] = next(iter(fitting.values()))
        return only
    if fitting:
        msg = f"several planners can read it: choose with --planner, of {', '.join(fitting)}"
        raise UsageError(msg)
    msg = f'it is neither a plan, {{"calls": [...]}}, nor a reply that a planner reads ({names})'
    raise UsageError(msg)


def _is_plan(payload: Any) -> bool:
    if isinstance(payload, dict):
        return "calls" in cast("dict[str, Any]", payload)
    if not isinstance(payload, list):
        return False
    # Output items of a reply have a type; calls of a plan have none.
    items = _listed(cast("object", payload))
    return all(isinstance(item, dict) and "type" not in item for item in items)


def drawn_plan(make: Callable[..., Planner], payload: Any) -> Plan:
    """Return a reply's plan without its tools: for each name that it calls, a stand-in."""
    names = dict.fromkeys(call.tool for call in make(()).plan(payload))
    stand_ins: list[Tool[..., Any]] = []
    for name in names:
        try:
            stand_ins.append(Tool.from_schema(name, ANYTHING, _never))
        except ToolDefinitionError:
            continue  # a name that no tool can have: the plan shows it as a problem
    return make(stand_ins).plan(payload)


def _never(**_: Any) -> None:
    msg = "a stand-in is not run"
    raise AssertionError(msg)


def hidden_planners(*files: str | None) -> str:
    """Return what there is to say of a package `planners` that hides dagexec's; empty if none.

    Python takes the one beside a script, or in the folder that it is started in, before those that
    are installed.
    """
    ours = Path(dagexec.__file__).resolve().parent.parent / "planners"
    beside = [Path(file).resolve().parent for file in files if file and Path(file).exists()]
    for folder in dict.fromkeys((Path.cwd(), *beside)):
        for found in (folder / "planners" / "__init__.py", folder / "planners.py"):
            if found.is_file() and found.resolve().parent != ours:
                return (
                    f"{found} hides dagexec's package `planners` from programs that start in"
                    f' {folder}: `from planners.openai import ChatPlanner` fails there with "No'
                    " module named 'planners.openai'\". Rename it"
                )
    return ""
