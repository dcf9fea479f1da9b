"""The command dashboard: the Streamlit pages."""

from contextlib import suppress
from importlib import import_module

from omegaconf import DictConfig

from pregao.cli.command import command
from pregao.config import parse
from pregao.dashboard.config import DashboardConfig
from pregao.settings import REPOSITORY

APP = REPOSITORY / "src/pregao/dashboard/app.py"

SLOW = (
    "altair",
    "streamlit.elements.arrow",
    "pregao.training.pipeline",
    "pregao.tracking.registry",
    "pregao.prices.downloader",
)
"""Imported before the port opens, so that the first visitor does not wait for them."""

GREEN = "#0b6e4f"


@command("dashboard")
def main(cfg: DictConfig) -> None:
    """Show prices, forecasts, experiments and trainings in the browser, in Portuguese and English.

      pregao dashboard
      pregao dashboard port=8502 language=en
      pregao dashboard source=csv source.path=DIR     your own prices: DIR/STOCK.csv with date,close

    SIGTERM and ctrl-C stop it with exit code 0, together with the training that it started.
    """
    config = parse(DashboardConfig, cfg)

    # Imported here: they take seconds, which --help and an invalid choice must not cost.
    from streamlit.web import bootstrap

    from pregao.errors import PregaoError
    from pregao.prices.downloader import Downloader
    from pregao.prices.symbols import Symbol
    from pregao.tracking import registry

    Symbol.parse(config.stock)
    Downloader(config.source.name, config.source.path)
    for name in SLOW:
        import_module(name)
    with suppress(PregaoError):  # each page shows the error
        registry.served_stocks()  # creates a missing database, which takes seconds
    options = _streamlit_options(config)
    bootstrap.load_config_options(options)
    bootstrap.run(str(APP), is_hello=False, args=[config.model_dump_json()], flag_options=options)


def _streamlit_options(config: DashboardConfig) -> dict[str, object]:
    return {
        "server_address": config.host,
        "server_port": config.port,
        "server_maxUploadSize": config.upload,
        "server_fileWatcherType": "none",
        "runner_magicEnabled": False,  # it would show the docstrings of a page's constants
        "browser_gatherUsageStats": False,
        "client_showErrorDetails": "none",  # the traceback is in the log; the page shows a message
        "client_toolbarMode": "minimal",
        "theme_primaryColor": GREEN,
    }
