"""Runs over any number of machines: the same plans, tools and promises, on DBOS and PostgreSQL."""

try:
    from dagexec.engines.dbos._engine import DbosEngine
except ImportError as _missing:
    if (_missing.name or "").partition(".")[0] not in ("dbos", "psycopg"):
        raise
    from dagexec import MissingExtra as _MissingExtra

    _text = "dagexec.engines.dbos needs DBOS and psycopg: pip install 'dagexec[dbos]'"
    raise _MissingExtra(_text) from _missing

__all__ = ["DbosEngine"]
