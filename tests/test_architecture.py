"""The layers of the package: a module imports only from lower lines, never upward and never across."""

import ast
import re
from graphlib import TopologicalSorter

from pregao.settings import REPOSITORY

PACKAGE = REPOSITORY / "src/pregao"

LINES = [
    {"errors", "settings", "config", "files", "quantiles"},
    {"prices", "data"},
    {"models", "evaluation"},
    {"tracking", "trained_model"},  # trained_model: for code that MLflow stored with earlier versions
    {"forecasting"},
    {"training"},
    {"backtesting", "tuning", "maintenance"},
    {"api", "dashboard"},
    {"cli"},
    {"testing"},
]
"""From the lowest to the highest; the root modules of the first line may import each other."""

TREES = {
    str(path.relative_to(PACKAGE)): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}


def imported(node):
    """The modules that a statement imports, and the names that may be modules."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return set()


IMPORTS = {name: set().union(*map(imported, ast.walk(tree))) for name, tree in TREES.items()}
"""By file, every import, including late ones and those of types alone."""


def package(name):
    return name.split("/")[0].removesuffix(".py")


def line(name):
    return next(number for number, names in enumerate(LINES) if name in names)


def test_a_module_imports_only_from_lower_lines():
    for name, found in IMPORTS.items():
        here = line(package(name))
        for other in {module.split(".")[1] for module in found if module.startswith("pregao.")} - {package(name)}:
            assert line(other) < here or line(other) == here == 0, (name, other)


def test_the_modules_do_not_import_each_other_in_a_circle():
    names = {f"pregao.{name.removesuffix('.py').replace('/', '.')}": name for name in TREES}
    graph = {module: (IMPORTS[name] & names.keys()) - {module} for module, name in names.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


NOT_ON_WINDOWS = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios"}


def test_only_tracking_imports_mlflow_and_only_the_lock_what_windows_lacks():
    roots = {name: {module.split(".")[0] for module in found} for name, found in IMPORTS.items()}
    assert {package(name) for name, found in roots.items() if "mlflow" in found} == {"tracking"}
    assert {name for name, found in roots.items() if found & NOT_ON_WINDOWS} == {"training/lock.py"}
    assert not [name for name, found in roots.items() if found & {"pickle", "dill", "cloudpickle"}]


def test_no_module_loads_a_pickle():
    for name in TREES:
        text = (PACKAGE / name).read_text(encoding="utf-8")
        assert all("weights_only=True" in call for call in re.findall(r"torch\.load\(.*", text))
        assert "joblib.load" not in text


def test_this_checkout_has_few_root_modules_and_private_names():
    from structure import counts  # which imports LINES

    found = counts(REPOSITORY)
    assert found["modules at the root"] <= 7
    assert found["private names of libraries"] <= 4
