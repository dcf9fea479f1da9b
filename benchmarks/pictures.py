"""Draws the README's pictures anew: python benchmarks/pictures.py DIR with VALE3.csv. Needs chromium, chromedriver."""

import os
import sys
import time
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from browser import STILL, chromium, dashboard, until
from diagram import draw
from PIL import Image

from pregao.evaluation import plots
from pregao.forecasting.evaluate import served_on_latest
from pregao.prices.downloader import Downloader
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY
from pregao.tracking import registry as tracking

PICTURES = REPOSITORY / "docs/pictures"
STOCK = "VALE3"
PAGE, WIDTH, HEIGHT = "forecast", 1280, 960


def of_the_model(prices: Path) -> None:
    """The shipped model's network, and its forecasts of what came after all that it has seen."""
    symbol = Symbol.parse(STOCK)
    served = tracking.champion(symbol)
    card = served.model.card
    draw(served.model.network, card.lookback, card.network["horizon"], PICTURES / "network.svg")
    found = Downloader("csv", prices, card.price).prices(symbol, "2015-01-01")
    evaluation = served_on_latest(served, found)
    plots.forecast_against_actual(evaluation, (1, evaluation.windows.horizon), PICTURES / "forecast.png")
    plots.error_per_step(evaluation, PICTURES / "error_per_step.png")


def of_the_dashboard(prices: Path, home: Path) -> None:
    """What a visitor sees."""
    with dashboard(prices, home) as address, chromium(WIDTH, HEIGHT) as driver:
        driver.get(f"{address}/{PAGE}?language=English")
        until(driver, STILL)
        until(driver, "return document.querySelectorAll('[data-testid=stVegaLiteChart] svg').length > 0")
        time.sleep(1.5)  # Vega draws once more when it knows its width
        image = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
        image.quantize(128).save(PICTURES / "dashboard.png", optimize=True)


def main(prices: Path) -> None:
    """Draw all of them."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as home:
        os.environ["PREGAO_HOME"] = home
        of_the_model(prices)
        of_the_dashboard(prices, Path(home))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
