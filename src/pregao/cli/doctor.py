"""The command doctor: damage in a home, and old runs."""

import sys
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from pregao.cli.command import command
from pregao.config import parse
from pregao.maintenance.config import DoctorConfig

if TYPE_CHECKING:  # --help must not wait for MLflow
    from rich.console import Console

FOUND = 1


@command("doctor")
def main(cfg: DictConfig) -> None:
    """Look for what is wrong in PREGAO_HOME, or for old runs; change nothing without fix=true.

      pregao doctor                       damaged databases and models, moved homes, dead trainings, leftovers
      pregao doctor fix=true              repair them
      pregao doctor prune keep=20         list the runs, versions and folders beyond the 20 newest of each stock
      pregao doctor prune keep=20 fix=true     delete them; served versions stay

    The exit code is 0 if nothing is wrong, or nothing is left of it, else 1.
    """
    config = parse(DoctorConfig, cfg)

    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if config.prune:
        _prune(console, config)
    elif _examine(console, config.fix):
        sys.exit(FOUND)


def _examine(console: "Console", fix: bool) -> bool:
    """Show the findings; returns whether one is left."""
    from pregao.maintenance.doctor import examine

    left = 0
    for finding in examine():
        done = fix and finding.fix is not None
        if done and finding.fix is not None:
            finding.fix()
        left += not done
        console.print(f"{'repaired' if done else 'found'}: {finding.what} {finding.remedy}", markup=False)
    if not left:
        console.print("Nothing is wrong." if not fix else "Nothing is left.")
    return left > 0


def _prune(console: "Console", config: DoctorConfig) -> None:
    from pregao.maintenance.prune import removals

    found = list(removals(config.keep))
    for removal in found:
        if config.fix:
            removal.remove()
        console.print(f"{'deleted' if config.fix else 'old'}: {removal.what}", markup=False)
    if found and not config.fix:
        console.print("Nothing was deleted; add fix=true to delete them.")
    if not found:
        console.print(f"Nothing lies beyond the {config.keep} newest runs and versions.")
