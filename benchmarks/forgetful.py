"""serve.py without its memory of forecasts, for faults.py to tell what that costs."""

import runpy
import sys
from pathlib import Path

from pregao.api.forecast_log_service import Memory
from pregao.forecasting.log import Record

ROOT = Path(__file__).resolve().parents[1]


async def forget(memory: Memory, record: Record) -> None:
    """In place of Memory.keep."""


if __name__ == "__main__":
    Memory.keep = forget  # type: ignore[method-assign]
    sys.path.insert(0, str(ROOT))
    sys.argv[0] = str(ROOT / "serve.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
