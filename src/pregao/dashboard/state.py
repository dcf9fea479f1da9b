"""State shared by the pages: the server's configuration and cached results."""

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
from pregao.tracking.served import served_file
from pregao.training.compose import train_config
from pregao.training.config import TrainConfig
from pregao.training.jobs import Jobs

T = TypeVar("T")

EARLIEST = date(1990, 1, 1)
"""No source has older prices."""


def configuration() -> DashboardConfig:
    """The server's configuration, which is the one argument of app.py."""
    return DashboardConfig.model_validate_json(sys.argv[1])


def cached(name: str, compute: Callable[[], T], *key: object) -> T:
    """The result or PregaoError of `compute`, cached for `remember` seconds or until a served model changes.

    Args:
        name: identifies the computation.
        compute: called if the result is not in the cache.
        key: the values that the result depends on.
    """
    config = configuration()
    context = (int(time.time() // config.remember), os.fspath(settings().home), _served_changed(), str(config))
    found = _compute_once(context, name, key, compute)
    if isinstance(found, PregaoError):
        raise found.with_traceback(None)
    result: T = found
    return result


# cache_resource does not copy results: pages must not change them.
@st.cache_resource(max_entries=64, show_spinner=False)
def _compute_once(context: tuple[object, ...], name: str, key: tuple[object, ...], _compute: Callable[[], Any]) -> Any:  # noqa: ANN401 - any result
    try:
        return _compute()
    except Exception as error:
        refused = refusal(error)
        if refused is None:
            raise
        return refused


def _served_changed() -> int:
    try:
        return served_file().stat().st_mtime_ns
    except OSError:
        return 0


def prices(symbol: Symbol, basis: PriceBasis) -> Prices:
    """All prices that the source has of a stock.

    Raises:
        PregaoError: as `Downloader.prices`.
    """
    source = configuration().source
    return cached(
        "prices", lambda: Downloader(source.name, source.path, basis).prices(symbol, EARLIEST), symbol.ticker, basis
    )


def training_defaults(symbol: Symbol, model: str | None = None) -> TrainConfig:
    """The default configuration of train.py for this stock; experiment=quickstart for the samples, which end in 2018.

    `model` is a file of conf/model; None for the default one.
    """
    experiment = {"experiment": "quickstart"} if symbol.ticker in SAMPLES else {}
    overrides = experiment | ({} if model is None else {"model": model})
    source = configuration().source
    return cached("defaults", lambda: train_config(symbol, None, None, source, overrides), symbol.ticker, model)


@st.cache_resource(show_spinner=False)
def forecast_writer() -> ForecastWriter:
    """The server's one writer of forecasts, which retries those that it could not write."""
    return ForecastWriter()


def training_jobs() -> Jobs:
    """The trainings of this machine; one object per server, since it owns the processes that it started."""
    return _jobs(settings().jobs)


@st.cache_resource(show_spinner=False)
def _jobs(folder: Path) -> Jobs:
    return Jobs(folder)
