"""Runs over any number of machines: the same plans, tools and promises, on Temporal."""

try:
    from dagexec.engines.temporal._engine import TemporalEngine
    from dagexec.engines.temporal._store import FolderStore
    from dagexec.engines.temporal._values import Store
except ImportError as _missing:
    if (_missing.name or "").partition(".")[0] != "temporalio":
        raise
    from dagexec import MissingExtra as _MissingExtra

    _text = "dagexec.engines.temporal needs temporalio: pip install 'dagexec[temporal]'"
    raise _MissingExtra(_text) from _missing

__all__ = ["FolderStore", "Store", "TemporalEngine"]
