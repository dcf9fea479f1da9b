"""The state that pages share: the server's configuration, and remembered results."""

import os
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st

from pregao.dashboard.config import DashboardConfig
from pregao.errors import PregaoError, refusal
from pregao.forecasting.writer import ForecastWriter
from pregao.prices.downloader import Downloader, Prices
from pregao.prices.symbols import SAMPLES, Symbol
from pregao.prices.table import PriceBasis
from pregao.settings import settings
from pregao.tracking import registry
from pregao.training.compose import train_config
from pregao.training.config import TrainConfig
from pregao.training.jobs import Jobs

T = TypeVar("T")

EARLIEST = date(1990, 1, 1)
"""No source has older prices."""


def configuration() -> DashboardConfig:
    """The server's configuration, which its pages get as their one argument."""
    return DashboardConfig.model_validate_json(sys.argv[1])


def remembered(what: str, work: Callable[[], T], *key: object) -> T:
    """The result of a work, or its refusal, until it is old or another model is served.

    Args:
        what: names the work.
        work: done where its result is not known.
        key: what the result depends on.

    Raises:
        PregaoError: the work's.
    """
    config = configuration()
    surroundings = (int(time.time() // config.remember), os.fspath(settings().home), _served_since(), str(config))
    found = _once(surroundings, what, key, work)
    if isinstance(found, PregaoError):
        raise found.with_traceback(None)
    result: T = found
    return result


# A resource: results are shared and not copied, so pages must not change them.
@st.cache_resource(max_entries=64, show_spinner=False)
def _once(surroundings: tuple[object, ...], what: str, key: tuple[object, ...], _work: Callable[[], Any]) -> Any:  # noqa: ANN401
    try:
        return _work()
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            raise
        return refused


def _served_since() -> int:
    try:
        return registry.changes().stat().st_mtime_ns
    except OSError:
        return 0


def prices(symbol: Symbol, basis: PriceBasis) -> Prices:
    """All that the source has of a stock.

    Raises:
        PregaoError: as `Downloader.prices`.
    """
    source = configuration().source
    return remembered(
        "prices", lambda: Downloader(source.name, source.path, basis).prices(symbol, EARLIEST), symbol.ticker, basis
    )


def training_defaults(symbol: Symbol, model: str | None = None) -> TrainConfig:
    """The configuration of train.py for this stock; for a sample, whose prices end in 2018, of the quickstart.

    `model` is a name of conf/model; None for the usual one.
    """
    experiment = {"experiment": "quickstart"} if symbol.ticker in SAMPLES else {}
    overrides = experiment | ({} if model is None else {"model": model})
    source = configuration().source
    return remembered("defaults", lambda: train_config(symbol, None, None, source, overrides), symbol.ticker, model)


@st.cache_resource(show_spinner=False)
def forecast_writer() -> ForecastWriter:
    """Logs the forecasts of all visits; one object per server, since it retries those that it could not write."""
    return ForecastWriter()


def the_jobs() -> Jobs:
    """The trainings of this machine; one object a server, since it holds on to the processes that it started."""
    return _jobs(settings().jobs)


@st.cache_resource(show_spinner=False)
def _jobs(folder: Path) -> Jobs:
    return Jobs(folder)
