"""Measure dagexec, alone and beside what else runs tool calls: `python -m tests.benchmarks`.

Workloads times systems, one process, systems taking turns, medians; then what only dagexec has. The
tools do nothing (or wait, in the random graphs), so that what is left is the system's own cost.
Every goal is printed beside its figure, with MISSED where it falls short.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks import costs, plot, programs
from tests.benchmarks.figures import Choice, machine, tables
from tests.benchmarks.matrix import Matrix


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="also draw the table here")
    parser.add_argument("--from", type=Path, dest="earlier", metavar="FILE", help="only draw this")
    parser.add_argument("--repeats", type=int, default=5, help="runs for each median (5)")
    parser.add_argument("--quick", action="store_true", help="without what takes long")
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="parts named so")
    return parser.parse_args()


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print tables, and return what was found, for JSON."""
    about = machine()  # first: with the load before measuring began
    wanted = Choice(tuple(options.only), options.quick)
    matrix = Matrix(options.repeats, wanted)
    matrix.measure()
    rows = list(matrix.rows.values())
    figures = [*matrix.figures()]
    figures += costs.measure(options.repeats, wanted)
    texts = programs.Programs(options.repeats, wanted)
    texts.measure()
    ran = list(texts.rows.values())
    figures += [*texts.figures(), *programs.costs(options.repeats, wanted)]
    for part in (rows, ran):
        print("\n".join(tables(part)), "\n")
    for figure in figures:
        print(figure)
    missed = sum(figure.met is False for figure in figures)
    print(f"\n{missed} of {sum(figure.goal is not None for figure in figures)} goals missed")
    return {
        "machine": about,
        "repeats": options.repeats,
        "table": [asdict(row) for row in rows],
        "programs": [asdict(row) for row in ran],
        "figures": [figure.as_dict() for figure in figures],
    }


def main() -> None:
    """Measure, or take what was measured; write it where asked."""
    options = arguments()
    earlier = options.earlier
    found = json.loads(earlier.read_text("utf-8")) if earlier else measured(options)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.plot and plot.complete(found):
        plot.write(found, options.plot)


if __name__ == "__main__":
    main()
