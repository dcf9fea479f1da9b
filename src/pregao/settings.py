"""Where things are: the environment, read in this one place."""

import os
from dataclasses import dataclass, field
from pathlib import Path

TRACKING_URI = "MLFLOW_TRACKING_URI"
FORECASTS_URI = "PREGAO_FORECASTS_URI"

B3_ADDRESS = "https://bvmf.bmfbovespa.com.br/InstDados/SerHist"
"""B3's public folder of historical quotes."""

REPOSITORY = Path(__file__).resolve().parents[2]

SHIPPED = REPOSITORY / "models"
"""Models that come with the repository, wherever the home is."""


@dataclass(frozen=True)
class Settings:
    """Folders and addresses of this installation.

    Attributes:
        home: holds data/, outputs/ and mlruns/ (`PREGAO_HOME`; default: the repository).
        tracking_uri: MLflow's address (`MLFLOW_TRACKING_URI`; default: sqlite in mlruns/mlflow.db).
        b3_address: where source=b3 fetches COTAHIST files, a mirror of B3's own folder (`PREGAO_B3_ADDRESS`).
        forecasts_uri: the database of past forecasts (`PREGAO_FORECASTS_URI`; default: sqlite in outputs/forecasts.db).
        api_key: what the API's clients must know (`PREGAO_API_KEY`); None lets everyone in.
    """

    home: Path
    tracking_uri: str = field(repr=False)  # a database's address may hold its password
    forecasts_uri: str = field(repr=False)
    b3_address: str = B3_ADDRESS
    api_key: str | None = field(default=None, repr=False)

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

    @property
    def jobs(self) -> Path:
        """What is known of the trainings that the API or the dashboard started."""
        return self.outputs / "jobs"

    @property
    def models(self) -> Path:
        """The shipped models, one folder a stock."""
        return SHIPPED


def settings() -> Settings:
    """Read at each call, so that a changed environment is seen at once."""
    home = Path(os.path.expanduser(os.environ.get("PREGAO_HOME") or REPOSITORY)).resolve()
    default_uri = f"sqlite:///{home / 'mlruns' / 'mlflow.db'}"
    return Settings(
        home=home,
        tracking_uri=os.environ.get(TRACKING_URI) or default_uri,
        b3_address=(os.environ.get("PREGAO_B3_ADDRESS") or B3_ADDRESS).rstrip("/"),
        forecasts_uri=os.environ.get(FORECASTS_URI) or f"sqlite:///{home / 'outputs' / 'forecasts.db'}",
        api_key=os.environ.get("PREGAO_API_KEY") or None,
    )
