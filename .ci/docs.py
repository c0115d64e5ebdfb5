"""Write the guides and the reference into build/docs, from the docstrings; see `make docs`.

The first page is README. A warning is an error, and so is a public name that no page has.
"""

from __future__ import annotations

import ast
import importlib
import shutil
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pdoc.doc
import pdoc.render
from pdoc.docstrings import convert
from pdoc.render_helpers import to_html

from dagexec import DagexecError

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "docs"
PICTURES = Path("notebooks/pictures")
# Cannot be installed beside the others: of what they need, one library is bounded below theirs.
# Their pages have the guide alone.
ELSEWHERE = ("dagexec.integrations.adk", "dagexec.integrations.strands")


def public_modules() -> dict[str, Path]:
    """Return all public modules, with no leading underscore on their way, and their files."""
    found: dict[str, Path] = {}
    for package in ("dagexec", "planners"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if not any(part.startswith("_") for part in parts):
                found[".".join(parts)] = path
    return found


def load(name: str, path: Path) -> ModuleType:
    """Return a module; of one that is elsewhere, its docstring."""
    try:
        return importlib.import_module(name)
    except DagexecError:
        if name not in ELSEWHERE:
            raise
    module = ModuleType(name, ast.get_docstring(ast.parse(path.read_text("utf-8"))))
    module.__all__ = []  # type: ignore[attr-defined]
    return module


def lost_names(modules: dict[str, ModuleType]) -> list[str]:
    """Return the public names that have no place in their module's page; pdoc shows no modules."""
    lost: list[str] = []
    for name, module in modules.items():
        text = (OUT / f"{name.replace('.', '/')}.html").read_text("utf-8")
        lost += [
            f"{name}.{each}"
            for each in getattr(module, "__all__", ())
            if f'id="{each}"' not in text and not isinstance(getattr(module, each), ModuleType)
        ]
    return lost


def write(name: str, text: str) -> None:
    """Write a file of the reference."""
    path = OUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def main() -> int:
    """Write all pages; return an exit code."""
    warnings.simplefilter("error")
    # pdoc evaluates annotations; what is imported for type checkers only is shown as it is
    # written. It runs no programs either, such as the `file` that a library of DBOS asks about
    # the interpreter.
    for known in ("Error parsing type annotation", "Failed to run TYPE_CHECKING"):
        warnings.filterwarnings("ignore", message=known)
    warnings.filterwarnings("ignore", message="Suppressed execution of")
    shutil.rmtree(OUT, ignore_errors=True)
    pdoc.render.configure(docformat="google", template_directory=Path(__file__).with_name("docs"))
    readme = convert((ROOT / "README.md").read_text("utf-8"), "markdown", None)
    pdoc.render.env.globals["readme"] = to_html(readme)

    modules = {name: load(name, path) for name, path in public_modules().items()}
    pages = {name: pdoc.doc.Module(module) for name, module in modules.items()}
    for name, page in pages.items():
        write(f"{name.replace('.', '/')}.html", pdoc.render.html_module(page, pages))
    write("index.html", pdoc.render.html_index(pages))
    write("search.js", pdoc.render.search_index(pages))
    shutil.copytree(ROOT / PICTURES, OUT / PICTURES)

    lost = lost_names(modules)
    for name in lost:
        print(f"make docs: no page has {name}", file=sys.stderr)
    print(f"{len(pages)} modules in {OUT}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
