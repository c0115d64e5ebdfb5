"""A store in Redis, or in a server that speaks as it does."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast, final

from dagexec._errors import DagexecError, MissingExtra
from dagexec.limits._remote import Bookings, check_timeout, plain, within
from dagexec.limits._store import STEP, Ask

# Seconds after which a server that has no connection, or no data yet, is asked again.
_AGAIN: Final = 0.05
# The arithmetic of `_store.Levels` on the server, which runs one script at a time. A level is four
# fields of the key's hash. Numbers are written in full: Lua by itself keeps 14 digits.
_HEAD: Final = f"""
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local step = {STEP}
local function full(number) return string.format('%.17g', number) end
local function read(name)
  local found = redis.call('HMGET', KEYS[1], 'left ' .. name, 'at ' .. name,
    'rate ' .. name, 'cap ' .. name)
  return tonumber(found[1]), tonumber(found[2]), tonumber(found[3]), tonumber(found[4])
end
local function write(name, left, at, rate, cap)
  redis.call('HSET', KEYS[1], 'left ' .. name, full(left), 'at ' .. name, full(at),
    'rate ' .. name, full(rate), 'cap ' .. name, full(cap))
end
local function refilled(left, at, rate, cap)
  local passed = now - at
  local from = math.max(now, at)
  if passed < -step then from = now end
  return math.min(cap, left + rate * math.max(0, passed)), from
end
local function closed()
  local found = redis.call('HMGET', KEYS[1], 'gate at', 'gate for')
  local at, length = tonumber(found[1]), tonumber(found[2])
  if not at then return 0 end
  return math.max(0, math.min(length, at + length - now))
end
local function keep(seconds)
  -- When all is full and open again, the key says nothing; an hour more for what is told late.
  local after = math.ceil(seconds * 1000) + 3600000
  if redis.call('PTTL', KEYS[1]) < after then
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(after, 1e13)))
  end
end
"""
_BOOK: Final = (
    _HEAD
    + """
local wait = closed()
local fills = 0
for i = 1, #ARGV, 6 do
  local name, held, room = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local rate, cap, since = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5])
  local left, at, was_rate, was_cap = read(name)
  local pace, size = math.min(rate, was_rate or rate), math.min(cap, was_cap or cap)
  local forgotten = not at or now - at > since + step
  if left then left, at = refilled(left, at, pace, size) else left, at = size, now end
  if forgotten then left = math.min(left, pace * since) end
  wait = math.max(wait, (math.min(room, size) - left) / pace)
  write(name, left - held, at, rate, cap)
  fills = math.max(fills, (cap - left + held) / rate)
end
if #ARGV > 0 then keep(math.max(fills, wait)) end
return full(wait)
"""
)
_ADD: Final = (
    _HEAD
    + """
for i = 1, #ARGV, 2 do
  local left, at, rate, cap = read(ARGV[i])
  if left then
    left, at = refilled(left, at, rate, cap)
    left = math.min(cap, left + tonumber(ARGV[i + 1]))
    write(ARGV[i], left, at, rate, cap)
    keep((cap - left) / rate)
  end
end
"""
)
_GATE: Final = (
    _HEAD
    + """
local left, seconds = closed(), tonumber(ARGV[1])
if seconds > left then
  redis.call('HSET', KEYS[1], 'gate at', full(now), 'gate for', full(seconds))
  keep(seconds)
end
return full(math.max(left, seconds))
"""
)


@final
class RedisStore:
    """Levels and gates of limiters in a Redis server, for processes on any number of machines.

    Args:
        server: A URL such as "redis://localhost:6379/0" or "rediss://…", or a client of redis-py's
            that you made: `redis.Redis`, one of a Sentinel, or `redis.RedisCluster`.
        prefix: What the names of its keys begin with.
        timeout: Seconds within which the server has to answer.

    Each limiter is one key, which the server deletes when it has been full for an hour. Booking is
    one script on the server, by the server's clock: the machines' clocks do not matter. Works on
    asyncio and trio, in threads of its own. Needs Redis 5, or Valkey, and the extra `redis`.

    Its methods raise what redis-py raises, and TimeoutError.
    """

    def __init__(
        self,
        server: str | Any = "redis://localhost:6379/0",
        *,
        prefix: str = "dagexec:limits:",
        timeout: float = 2.0,
    ) -> None:
        """Connect to nothing yet; raise DagexecError for settings that cannot be."""
        check_timeout("RedisStore", timeout)
        self._prefix = prefix
        self._timeout = timeout
        self._client = _connected(server, timeout) if isinstance(server, str) else _checked(server)
        self._bookings = Bookings()
        self._busy, self._demoted = _errors()
        # A client of the user's is the user's to close.
        self._own = isinstance(server, str)
        self._book, self._add, self._gate = (
            self._client.register_script(code) for code in (_BOOK, _ADD, _GATE)
        )

    def __repr__(self) -> str:
        """Return its prefix; a URL may hold a password."""
        return f"<RedisStore {self._prefix!r}>"

    async def book(self, key: str, asks: Mapping[str, Ask]) -> float:
        """See `Store.book`."""
        values: list[str | float] = []
        held: list[str | float] = []
        for name, ask in asks.items():
            since = self._bookings.since(key, name)
            values += (plain(name), ask.held, ask.room, ask.rate, ask.cap, since)
            held += (plain(name), ask.held)
        sent = time.monotonic()
        wait = float(await self._run(self._book, key, values, undo=held))
        self._bookings.note(key, asks, sent)
        return wait

    async def add(self, key: str, amounts: Mapping[str, float]) -> None:
        """See `Store.add`."""
        values: list[str | float] = []
        for name, amount in amounts.items():
            values += (plain(name), amount)
        await self._run(self._add, key, values)

    async def gate(self, key: str, seconds: float = 0.0) -> float:
        """See `Store.gate`."""
        return float(await self._run(self._gate, key, [seconds]))

    def close(self) -> None:
        """Close its connections; the next use opens new ones. A client of yours stays open."""
        if self._own:
            self._client.close()

    async def _run(
        self,
        script: Callable[..., Any],
        key: str,
        values: list[str | float],
        undo: list[str | float] | None = None,
    ) -> Any:
        keys = [self._prefix + plain(key)]
        return await within(
            self._timeout,
            "Redis",
            lambda: self._ask(script, keys, values),
            (lambda: self._add(keys=keys, args=undo)) if undo else None,
        )

    def _ask(self, script: Callable[..., Any], keys: list[str], values: list[str | float]) -> Any:
        """Run a script, in a thread; wait for a connection, and for a server that comes up."""
        until = time.monotonic() + self._timeout
        while True:
            try:
                return script(keys=keys, args=values)
            except self._busy:  # nothing was done
                if time.monotonic() + _AGAIN > until:
                    raise
                time.sleep(_AGAIN)
            except self._demoted:
                # Another server has taken over under this address: the next use connects anew.
                pool = getattr(self._client, "connection_pool", None)
                if pool is not None:
                    pool.disconnect(inuse_connections=False)
                raise


def _connected(url: str, timeout: float) -> Any:
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as missing:
        msg = "dagexec.limits.RedisStore needs redis: pip install 'dagexec[redis]'"
        raise MissingExtra(msg) from missing
    try:
        # No second try: after the first, nobody knows whether the script ran.
        once = Retry(NoBackoff(), 0)
        make = cast("Callable[..., Any]", redis.Redis.from_url)  # pyright: ignore[reportUnknownMemberType]
        return make(url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=once)
    except ValueError as error:
        msg = f"this is no URL of a Redis: {error}"
        raise DagexecError(msg) from error


def _errors() -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """Return the errors of who has to wait a little, and of a master that is one no more."""
    try:
        from redis import exceptions
    except ImportError:  # a client of the user's that only speaks like redis-py's
        return (), ()
    busy = exceptions.BusyLoadingError, exceptions.MaxConnectionsError
    return busy, (exceptions.ReadOnlyError,)


def _checked(client: Any) -> Any:
    register = getattr(client, "register_script", None)
    if register is None or inspect.iscoroutinefunction(getattr(client, "execute_command", None)):
        msg = (
            f"{type(client).__module__}.{type(client).__name__} is no client that a RedisStore can"
            " use: give a URL, or a client of redis-py's that blocks (redis.Redis)"
        )
        raise DagexecError(msg)
    return client
