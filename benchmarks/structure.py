"""Size and imports of one or more checkouts, as a table: python benchmarks/structure.py [DIR …].

DIR defaults to this repository. Counts the lines of the files that git tracks in src, conf, deploy and notebooks. An
import is upward if tests/test_architecture.py does not list the imported package on a lower line; a module that is not
listed counts as the topmost. A private name is a name with a leading underscore that belongs to a library.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "conf", "deploy", "notebooks")
PUBLIC = {"_exit", "_replace", "_asdict", "_fields"}
"""Documented names that start with an underscore."""

sys.path.insert(0, str(REPOSITORY))
from tests.test_architecture import LINES  # noqa: E402 - needs the path


def line(package: str) -> int:
    """The line of a package, from 0 at the bottom."""
    return next((number for number, names in enumerate(LINES) if package in names), len(LINES))


def imported(tree: ast.AST) -> Iterator[str]:
    """The full names of all imports of a module, those in functions and of types included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward(path: Path, tree: ast.AST) -> Iterator[str]:
    """Imports of pregao packages from the same line or a higher one."""
    here = path.with_suffix("").parts[0]
    for name in imported(tree):
        root, _, rest = name.partition(".")
        there = rest.split(".")[0]
        if root == "pregao" and there != here and line(there) >= max(line(here), 1):
            yield name


def private(tree: ast.AST, own: set[str]) -> Iterator[str]:
    """Names with a leading underscore that are not in `own`, the names that this package defines."""
    yield from (name for name in imported(tree) if not name.startswith("pregao") and re.search(r"\._[a-z]", name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
            of_super = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super"
            if node.attr not in PUBLIC and (of_super or node.attr not in own):
                yield node.attr


def defined(tree: ast.AST) -> Iterator[str]:
    """The names of functions, classes, attributes and fields that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def counts(folder: Path) -> dict[str, int]:
    """The rows of the table for one checkout."""
    listed = ["git", "-C", str(folder), "ls-files", *FOLDERS]
    names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.splitlines()
    files = [folder / name for name in names if (folder / name).is_file()]
    package = folder / "src/pregao"
    trees = {path.relative_to(package): ast.parse(path.read_bytes()) for path in package.rglob("*.py")}
    own = {name for tree in trees.values() for name in defined(tree)}
    texts = [(package / path).read_text(encoding="utf-8") for path in trees]
    return {
        "files in src, conf, deploy, notebooks": len(files),
        "their lines": sum(path.read_bytes().count(b"\n") for path in files),
        "lines of Python in src": sum(text.count("\n") for text in texts),
        "modules": len(trees),
        "modules at the root": sum(len(path.parts) == 1 and path.name != "__init__.py" for path in trees),
        "lines of the longest module": max(text.count("\n") for text in texts),
        "names imported from the package": sum(
            name.startswith("pregao.") for tree in trees.values() for name in imported(tree)
        ),
        "of them upward or across": sum(len(list(upward(path, tree))) for path, tree in trees.items()),
        "private names of libraries": sum(len(list(private(tree, own))) for tree in trees.values()),
        "`type: ignore`": sum(text.count("# type: ignore") for text in texts),
    }


def main(folders: list[Path]) -> None:
    """Print the table, one column per checkout."""
    columns = [counts(folder) for folder in folders]
    print(f"| | {' | '.join(folder.name for folder in folders)} |\n|---|{'---:|' * len(folders)}")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(f'{column[name]:,}' for column in columns)} |")


if __name__ == "__main__":
    main([Path(folder).resolve() for folder in sys.argv[1:]] or [REPOSITORY])
