"""MLflow's pages for this installation's store, on port 5001: python -m pregao.tracking (make mlflow)."""

import os
import sys

from pregao.settings import settings
from pregao.tracking.client import prepared_client

if __name__ == "__main__":
    prepared_client()
    # Not on the command line, which other users can list: the address may hold a password.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = settings().tracking_uri
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", "--port", "5001", "--workers", "1"])  # nosec B606
