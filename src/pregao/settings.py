"""Where things are: the environment, read in this one place."""

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """Folders and addresses of this installation.

    Attributes:
        home: holds data/, outputs/ and mlruns/ (`PREGAO_HOME`; default: the repository).
        tracking_uri: MLflow's address (`MLFLOW_TRACKING_URI`; default: sqlite in mlruns/mlflow.db).
    """

    home: Path
    tracking_uri: str

    @property
    def data(self) -> Path:
        """The price cache, one csv a stock."""
        return self.home / "data"

    @property
    def outputs(self) -> Path:
        """Hydra's run folders."""
        return self.home / "outputs"

    @property
    def mlruns(self) -> Path:
        """MLflow's database and artifacts."""
        return self.home / "mlruns"


def settings() -> Settings:
    """Read at each call, so that a changed environment is seen at once."""
    home = Path(os.environ.get("PREGAO_HOME") or REPOSITORY).expanduser().resolve()
    default_uri = f"sqlite:///{home / 'mlruns' / 'mlflow.db'}"
    return Settings(home=home, tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or default_uri)
