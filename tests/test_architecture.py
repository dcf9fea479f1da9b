"""The layers of the package: a module imports only from lower lines, never upward and never across."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

from pregao.settings import REPOSITORY

PACKAGE = REPOSITORY / "src/pregao"
FILES = sorted(PACKAGE.rglob("*.py"))

LINES = [
    {"errors", "settings", "config", "files", "quantiles"},
    {"prices", "data"},
    {"models", "evaluation"},
    {"tracking", "trained_model"},  # trained_model: for code that MLflow stored with earlier versions
    {"forecasting"},
    {"training"},
    {"backtesting", "tuning"},
    {"api", "dashboard"},
    {"cli"},
    {"testing"},
]
"""From the lowest to the highest; the root modules of the first line may import each other."""


def line(name):
    [found] = [number for number, names in enumerate(LINES) if name in names]
    return found


def imports(path):
    """Every imported module of a file, late imports and imports of types included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "pregao":
            yield from (f"pregao.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def package(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def ours(path):
    return {name.split(".")[1] for name in imports(path) if name.startswith("pregao.")}


def named(path):
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", [path for path in FILES if path != PACKAGE / "__init__.py"], ids=named)
def test_a_module_imports_only_from_lower_lines(path):
    here = package(path)
    above = {name for name in ours(path) - {here} if line(name) >= line(here) and line(here) > 0}
    assert not above
    if line(here) == 0:
        assert all(line(name) == 0 for name in ours(path))


def test_every_package_is_on_a_line():
    assert {package(path) for path in FILES} - {"__init__"} <= set().union(*LINES)


def test_modules_of_a_package_do_not_import_each_other_in_a_circle():
    graph = {}
    names = {".".join(("pregao", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in FILES}
    for name, path in names.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pregao"):
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        graph[name] = {other for other in found & set(names) if other != name}
    assert not _circle(graph)


def _circle(graph):
    """A circle of imports as a list of modules, or None."""
    done = set()

    def visit(name, path):
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return None
        for other in sorted(graph[name]):
            found = visit(other, [*path, name])
            if found:
                return found
        done.add(name)
        return None

    return next((found for name in sorted(graph) if (found := visit(name, []))), None)


def test_at_most_seven_modules_lie_at_the_root():
    assert len([path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]) <= 7


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/__init__.py")), ids=named)
def test_a_package_says_what_lives_in_it(path):
    assert len(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") > 60


def test_only_tracking_imports_mlflow():
    assert {package(path) for path in FILES if any(name.split(".")[0] == "mlflow" for name in imports(path))} == {
        "tracking"
    }


def test_only_the_training_lock_which_a_child_inherits_is_not_portable():
    assert {named(path) for path in FILES if "fcntl" in imports(path)} == {"training/lock.py"}


NOT_ON_WINDOWS = """
    fcntl grp posix pty pwd resource syslog termios pregao.training.lock
    os.fork os.forkpty os.getgid os.getuid os.geteuid os.killpg os.nice os.register_at_fork os.sched_getaffinity
    os.setsid os.statvfs os.uname os.O_CLOEXEC os.O_NOFOLLOW os.WNOHANG
    signal.SIGALRM signal.SIGCHLD signal.SIGHUP signal.SIGKILL signal.SIGPIPE signal.SIGUSR1 signal.pthread_sigmask
"""


def run_at_import(node):
    """The nodes of a module that its import runs: all but bodies of functions and imports of types."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in (child.args, *child.decorator_list):
                yield from ast.walk(part)
        elif not isinstance(child, ast.Lambda):
            yield from run_at_import(child)


@pytest.mark.parametrize("path", [path for path in FILES if named(path) != "training/lock.py"], ids=named)
def test_a_module_imports_on_windows(path):
    used = set()
    for node in run_at_import(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            used |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute):
            used.add(ast.unparse(node))
    assert not used & set(NOT_ON_WINDOWS.split())


def test_nothing_loads_a_pickle():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert not {name.split(".")[0] for name in imports(path)} & {"pickle", "dill", "cloudpickle"}
        assert all("weights_only=True" in call for call in re.findall(r"torch\.load\(.*", text))
        assert "joblib.load" not in text


@pytest.mark.parametrize("entry", ["train.py", "tune.py", "predict.py", "backtest.py", "serve.py"])
def test_a_root_script_only_calls_its_command(entry):
    assert len(Path(REPOSITORY / entry).read_text(encoding="utf-8").splitlines()) <= 6


def test_the_lines_are_disjoint():
    assert all(not low & high for low, high in pairwise(LINES))
