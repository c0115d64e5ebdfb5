"""Runs over any number of machines: the same plans, tools and promises, on DBOS and PostgreSQL."""

try:
    import dbos as _dbos  # noqa: F401 - is it there?
    import psycopg as _psycopg  # noqa: F401
except ImportError as _missing:  # pragma: no cover - the extra is there in the tests
    from dagexec import MissingExtra as _MissingExtra

    _text = "dagexec.engines.dbos needs DBOS: pip install 'dagexec[dbos]'"
    raise _MissingExtra(_text) from _missing

from dagexec.engines.dbos._engine import DbosEngine

__all__ = ["DbosEngine"]
