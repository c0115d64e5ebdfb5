"""What an MCP server is, in the forms that its users have at hand."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast, final
from urllib.parse import urlsplit

from mcp import StdioServerParameters
from mcp.client.stdio import get_default_environment

from dagexec._errors import DagexecError

if TYPE_CHECKING:
    import httpx2


@final
@dataclass(frozen=True, slots=True)
class StdioServer:
    """A server that is a program of its own and is talked to by its stdin and stdout.

    `env` is added to the few variables that a server gets by default (PATH, HOME and the like):
    keys that are meant for others do not reach it.
    """

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    cwd: str | os.PathLike[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of the program."""
        return {**get_default_environment(), **self.env}

    @property
    def name(self) -> str:
        """What it is called where it was given no name; without arguments, which may be secret."""
        return Path(self.command[0]).name


@final
@dataclass(frozen=True, slots=True)
class HttpServer:
    """A server that is reached by MCP's streamable HTTP.

    `client` is an `httpx2.AsyncClient` with what it needs, certificates or a login, say; without
    one, a client with these `headers` is made for each connection.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    client: httpx2.AsyncClient | None = None

    @property
    def name(self) -> str:
        """What it is called where it was given no name; without path and query."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


Server: TypeAlias = StdioServer | HttpServer
Given: TypeAlias = "Server | StdioServerParameters | str | Sequence[str] | Mapping[str, Any]"


def server_of(given: Given) -> Server:
    """Return a server from any of the forms it can be given in; raise DagexecError."""
    if isinstance(given, StdioServer | HttpServer):
        return given
    if isinstance(given, StdioServerParameters):
        return StdioServer((given.command, *given.args), given.env or {}, given.cwd)
    if isinstance(given, Mapping):
        return _configured(given)
    if isinstance(given, str):
        if urlsplit(given).scheme in ("http", "https"):
            return HttpServer(given)
    elif isinstance(cast("object", given), Sequence) and given:
        return StdioServer(tuple(os.fspath(part) for part in given))
    msg = (
        f"{given!r} is no MCP server: give a command as a list, an http(s) URL,"
        ' {"command": ..., "args": [...], "env": {...}} or {"url": ..., "headers": {...}}'
    )
    raise DagexecError(msg)


def _configured(given: Mapping[str, Any]) -> Server:
    """Return a server from the form that configuration files use."""
    kinds = {"command": {"command", "args", "env", "cwd"}, "url": {"url", "headers"}}
    kind = next((key for key in kinds if key in given), None)
    unknown = [] if kind is None else sorted(set(given) - kinds[kind] - {"type", "transport"})
    if kind is None or unknown:
        what = f"unknown keys {unknown}" if unknown else "neither 'command' nor 'url'"
        msg = f"the configuration of an MCP server has {what}"
        raise DagexecError(msg)
    if kind == "url":
        return HttpServer(str(given["url"]), dict(given.get("headers") or {}))
    command = (str(given["command"]), *map(str, given.get("args") or ()))
    return StdioServer(command, dict(given.get("env") or {}), given.get("cwd"))


def named_servers(given: Sequence[Given | Mapping[str, Given]]) -> dict[str, Server]:
    """Return servers by name; a mapping of names to servers may stand among them."""
    found: dict[str, Server] = {}
    for each in given:
        is_names = isinstance(each, Mapping) and not {"command", "url"} & set(each)
        pairs: list[tuple[str, Server]]
        if is_names:
            names = cast("Mapping[str, Given]", each)
            pairs = [(name, server_of(server)) for name, server in names.items()]
        else:
            server = server_of(cast("Given", each))
            pairs = [(server.name, server)]
        for name, server in pairs:
            free = name
            while free in found:
                free = f"{name}-{len(found) + 1}"
            found[free] = server
    if not found:
        msg = "MCPTools() needs a server: a command as a list, or an http(s) URL"
        raise DagexecError(msg)
    return found
