"""What `PostgresStore` has its server compute: the arithmetic of `_store.Levels`.

A key is one row, and what is done to it is one statement: what `on conflict` computes, it computes
when the row is locked, and so is the clock read that stands in it (`offset 0` keeps it from being
read for each level). `least` and `greatest` pass over nulls: an unknown level is a full one.
"""

from __future__ import annotations

from typing import Final

from dagexec.limits._store import STEP

# Two that make a table at the same moment would both fail, `if not exists` or not.
LOCK: Final = "select pg_advisory_xact_lock(hashtextextended('dagexec TABLE', 0));"

# What it says need not survive a crash, so it is not logged; a row is written again and again.
MAKE: Final = """
create unlogged table if not exists TABLE (
    key text primary key,
    levels jsonb not null default '{}',
    gate_at float8 not null default 0,
    gate_for float8 not null default 0
) with (fillfactor = 50)
"""

BOOK: Final = """
insert into TABLE as t (key, levels) values (%(key)s, (
    select coalesce(jsonb_object_agg(name, jsonb_build_object(
        'left', least(cap, rate * since) - held, 'at', now,
        'rate', rate, 'cap', cap, 'pace', rate, 'size', cap)), '{}')
    from unnest(%(names)s::text[], %(held)s::float8[], %(rates)s::float8[], %(caps)s::float8[],
            %(since)s::float8[]) as ask(name, held, rate, cap, since),
        (select extract(epoch from clock_timestamp())::float8 as now offset 0) as clock
))
on conflict (key) do update set levels = t.levels || (
    select coalesce(jsonb_object_agg(name, jsonb_build_object(
        'left', least(size, was_left + pace * greatest(0, now - was_at),
            case when was_at is null or now - was_at > since + STEP then pace * since end) - held,
        'at', case when was_at - now > STEP then now else greatest(now, was_at) end,
        'rate', rate, 'cap', cap, 'pace', pace, 'size', size)), '{}')
    from unnest(%(names)s::text[], %(held)s::float8[], %(rates)s::float8[], %(caps)s::float8[],
            %(since)s::float8[]) as ask(name, held, rate, cap, since),
        (select extract(epoch from clock_timestamp())::float8 as now offset 0) as clock,
        lateral (select (t.levels->name->>'left')::float8 as was_left,
            (t.levels->name->>'at')::float8 as was_at,
            least(rate, (t.levels->name->>'rate')::float8) as pace,
            least(cap, (t.levels->name->>'cap')::float8) as size) as was
)
returning levels, greatest(0, least(gate_for,
    gate_at + gate_for - extract(epoch from clock_timestamp())::float8))
"""

ADD: Final = """
update TABLE as t set levels = t.levels || (
    select coalesce(jsonb_object_agg(name, jsonb_build_object(
        'left', least(cap, least(cap, was_left + rate * greatest(0, now - was_at)) + amount),
        'at', case when was_at - now > STEP then now else greatest(now, was_at) end,
        'rate', rate, 'cap', cap)), '{}')
    from unnest(%(names)s::text[], %(amounts)s::float8[]) as more(name, amount),
        (select extract(epoch from clock_timestamp())::float8 as now offset 0) as clock,
        lateral (select (t.levels->name->>'left')::float8 as was_left,
            (t.levels->name->>'at')::float8 as was_at,
            (t.levels->name->>'rate')::float8 as rate,
            (t.levels->name->>'cap')::float8 as cap) as was
    where cap is not null
)
where key = %(key)s
"""

CLOSED: Final = """
select greatest(0, least(gate_for,
    gate_at + gate_for - extract(epoch from clock_timestamp())::float8))
from TABLE where key = %(key)s
"""

CLOSE: Final = """
insert into TABLE as t (key, gate_at, gate_for)
values (%(key)s, extract(epoch from clock_timestamp())::float8, %(seconds)s)
on conflict (key) do update set (gate_at, gate_for) = (
    select now, greatest(excluded.gate_for, least(t.gate_for, t.gate_at + t.gate_for - now))
    from (select extract(epoch from clock_timestamp())::float8 as now offset 0) as clock
)
returning gate_for
"""


def of_table(statement: str, table: str) -> str:
    """Return a statement for a table, whose name has been checked."""
    return statement.replace("TABLE", table).replace("STEP", str(STEP))
