"""Redraw the README's pictures: python benchmarks/pictures.py DIR with VALE3.csv. Needs chromium and chromedriver."""

import os
import sys
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from browser import STILL, chromium, dashboard, until
from diagram import draw
from PIL import Image

from pregao.evaluation import plots
from pregao.evaluation.report import Evaluation
from pregao.forecasting.evaluate import served_on_latest
from pregao.prices.downloader import Downloader
from pregao.prices.figure import picture
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY
from pregao.tracking import registry

PICTURES = REPOSITORY / "docs/pictures"
STOCK = "VALE3"
PAGE, WIDTH, HEIGHT = "forecast", 1280, 960


def of_the_model(prices: Path) -> None:
    """Draw the shipped model's network, and its forecasts after its training data."""
    symbol = Symbol.parse(STOCK)
    served = registry.champion(symbol)
    card = served.model.card
    draw(served.model.network, card.lookback, card.network["horizon"], PICTURES / "network.svg")
    found = Downloader("csv", prices, card.price).prices(symbol, "2015-01-01")
    evaluation = served_on_latest(served, found)
    forecast_against_actual(evaluation, (1, evaluation.windows.horizon), PICTURES / "forecast.png")
    error_per_step(evaluation, PICTURES / "error_per_step.png")


def forecast_against_actual(evaluation: Evaluation, steps: Sequence[int], path: Path) -> None:
    """Draw forecasts, bands and actual closes of the first stock, one row per step."""
    table = evaluation.tables.forecasts
    stock = table["stock"].iloc[0]
    with picture(path, 10, 2.5 * len(steps) + 0.4) as figure:
        axes = figure.subplots(len(steps), squeeze=False)[:, 0]
        for axis, step in zip(axes, steps, strict=True):
            chosen = table[(table["step"] == step) & (table["stock"] == stock)]
            plots.against_actual(axis, chosen, f"{stock}, {plots.ahead(step)}", evaluation.currency)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)


def error_per_step(evaluation: Evaluation, path: Path) -> None:
    """Draw the MAPE of the model and of last close by step."""
    with picture(path, 6, 3.2) as figure:
        axis = figure.add_subplot()
        plots.error_per_step(axis, evaluation)
        axis.set_title(f"{evaluation.stock}: error per step, {len(evaluation.windows)} windows", loc="left")


def of_the_dashboard(prices: Path, home: Path) -> None:
    """Take the screenshot of the dashboard."""
    with dashboard(prices, home) as address, chromium(WIDTH, HEIGHT, "--hide-scrollbars") as driver:
        driver.get(f"{address}/{PAGE}?language=English")
        until(driver, STILL)
        until(driver, "return document.querySelectorAll('[data-testid=stVegaLiteChart] svg').length > 0")
        time.sleep(1.5)  # Vega redraws when it knows its width
        image = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
        image.quantize(128).save(PICTURES / "dashboard.png", optimize=True)


def main(prices: Path) -> None:
    """Draw all pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as home:
        os.environ["PREGAO_HOME"] = home
        of_the_model(prices)
        of_the_dashboard(prices, Path(home))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
