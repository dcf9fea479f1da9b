"""serve.py without the forecast log, to measure the cost of logging in faults.py."""

import runpy
import sys
from pathlib import Path

from pregao.api.forecast_log_service import ForecastLogService
from pregao.forecasting.log import Record

ROOT = Path(__file__).resolve().parents[1]


async def skip(log: ForecastLogService, record: Record) -> bool:
    """Replaces ForecastLogService.write."""
    return True


if __name__ == "__main__":
    ForecastLogService.write = skip  # type: ignore[method-assign]
    sys.path.insert(0, str(ROOT))
    sys.argv[0] = str(ROOT / "serve.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
