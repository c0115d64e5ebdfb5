"""What people give in the place of a tool or a list of tools, and how each is mended."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

from dagexec._core.names import some
from dagexec._tools.arguments import shorten

_NAMED = 8  # functions of a module


def no_tool(given: object) -> str:
    """Return the text of the error about what cannot become a tool."""
    what, hint = shorten(given), "give the function itself, not its name or what it returned"
    if isinstance(given, ModuleType):
        what, hint = f"the module {given.__name__}", f"give its functions: {_functions(given)}"
    elif isinstance(given, Mapping):
        body = cast("Mapping[str, Any]", given)
        inner: Any = body.get("function", body)
        name: Any = inner.get("name") if hasattr(inner, "get") else None
        hint = (
            "a definition has no code to run: Tool.from_schema"
            f"({name or 'name'!r}, parameters, function) joins both"
        )
    elif inspect.iscoroutine(given):
        name = given.__name__
        given.close()  # nobody will await it
        what, hint = "a coroutine", f"give {name}, without calling it"
    elif isinstance(given, list | tuple | set | frozenset):
        hint = "a list in a list: write [*these, *those]"
    elif given is None:
        hint = "a decorator or a function that made it may have forgotten its return"
    return f"a tool is made of a function, not of {what}: {hint}"


def no_tools(given: object) -> str:
    """Return the text of the error about what is no list of tools."""
    kind = type(given).__name__
    if isinstance(given, ModuleType):
        kind, hint = f"the module {given.__name__}", f"give its functions: {_functions(given)}"
    elif isinstance(given, Mapping):
        hint = "write [*tools.values()]"
    elif isinstance(given, str):
        hint = "give the functions, not their names"
    elif isinstance(getattr(given, "tools", None), Mapping):
        hint = "write [*executor.tools.values()]"
    elif callable(given):
        hint = f"write [{getattr(given, 'name', None) or getattr(given, '__name__', 'tool')}]"
    elif given is None:
        hint = "write [] for none"
    else:
        hint = "give both the same list"
    return f"tools are given as a list of tools and functions, not as {kind}: {hint}"


def _functions(module: ModuleType) -> str:
    names = [
        name
        for name, each in vars(module).items()
        if not name.startswith("_")
        and callable(each)
        and not isinstance(each, type)
        and getattr(each, "__module__", module.__name__) == module.__name__
    ]
    short = module.__name__.rpartition(".")[2]
    return f"[{some([f'{short}.{name}' for name in names], _NAMED)}]" if names else "it has none"
