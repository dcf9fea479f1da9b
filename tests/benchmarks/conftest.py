"""The scripts of benchmarks/ lie in no package: this makes them importable."""

import sys

from pregao.settings import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))
