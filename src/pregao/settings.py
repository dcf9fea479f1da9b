"""Folders and addresses, from environment variables."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

SQLITE = "sqlite:///"
TRACKING_URI = "MLFLOW_TRACKING_URI"
FORECASTS_URI = "PREGAO_FORECASTS_URI"

B3_ADDRESS = "https://bvmf.bmfbovespa.com.br/InstDados/SerHist"
"""B3's public folder of historical quotes."""

REPOSITORY = Path(__file__).resolve().parents[2]

SHIPPED = REPOSITORY / "models"
"""The models in the repository, independent of the home."""


@dataclass(frozen=True)
class Settings:
    """Folders and addresses of this installation.

    Attributes:
        home: contains data/, outputs/ and mlruns/ (`PREGAO_HOME`; default: the repository).
        tracking_uri: MLflow's address (`MLFLOW_TRACKING_URI`; default: sqlite in mlruns/mlflow.db).
        b3_address: where source=b3 downloads COTAHIST files: B3's folder or a mirror (`PREGAO_B3_ADDRESS`).
        forecasts_uri: the database of past forecasts (`PREGAO_FORECASTS_URI`; default: sqlite in outputs/forecasts.db).
        api_key: key that the API's clients must send (`PREGAO_API_KEY`); None disables the check.
        admin_key: key for promote=always and rollbacks over HTTP (`PREGAO_ADMIN_KEY`); None refuses them.
    """

    home: Path
    tracking_uri: str = field(repr=False)  # a database's address may hold its password
    forecasts_uri: str = field(repr=False)
    b3_address: str = B3_ADDRESS
    api_key: str | None = field(default=None, repr=False)
    admin_key: str | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        """The price cache, one csv file per stock."""
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
        """States of the trainings that the API or the dashboard started."""
        return self.outputs / "jobs"

    @property
    def models(self) -> Path:
        """The shipped models, one folder per stock."""
        return SHIPPED


def sqlite_uri(file: Path) -> str:
    """The address of a database file; the characters with a meaning in SQLAlchemy's addresses are escaped."""
    return SQLITE + str(file).replace("%", "%25").replace("?", "%3F")


def sqlite_file(uri: str) -> Path | None:
    """The file of a database's address; None for a server."""
    return Path(unquote(uri.removeprefix(SQLITE).partition("?")[0])) if uri.startswith(SQLITE) else None


def settings() -> Settings:
    """The settings, read from the environment at each call."""
    home = Path(os.path.expanduser(os.environ.get("PREGAO_HOME") or REPOSITORY)).resolve()
    return Settings(
        home=home,
        tracking_uri=os.environ.get(TRACKING_URI) or sqlite_uri(home / "mlruns/mlflow.db"),
        b3_address=(os.environ.get("PREGAO_B3_ADDRESS") or B3_ADDRESS).rstrip("/"),
        forecasts_uri=os.environ.get(FORECASTS_URI) or sqlite_uri(home / "outputs/forecasts.db"),
        api_key=os.environ.get("PREGAO_API_KEY") or None,
        admin_key=os.environ.get("PREGAO_ADMIN_KEY") or None,
    )
