"""Makes the scripts of benchmarks/ importable."""

import sys

from pregao.settings import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))
