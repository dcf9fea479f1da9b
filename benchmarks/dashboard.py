"""How fast the dashboard is in Chromium: nice -n -10 python benchmarks/dashboard.py DIR [ROUNDS]; DIR holds VALE3.csv.

Each round starts a server on a fresh home and opens a browser that has nothing cached. A page is drawn when Streamlit
has run it, nothing in it waits, and its charts are there; a change is drawn when the text and the chart have changed.
Needs chromium and chromedriver. Writes benchmarks/dashboard.md.
"""

import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

from browser import STILL, chromium, dashboard, until
from machine import machine
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from pregao.settings import REPOSITORY

REPORT = REPOSITORY / "benchmarks/dashboard.md"

WANTED = {
    "first page, first visit to a new server": 3.0,
    "first page, next visit": 3.0,
    "another step": 0.5,
}
"""Seconds."""

LOOK = 0.5
"""Seconds that a person looks at a step before the next; what is below the first chart is drawn by then."""

CHARTS = "document.querySelectorAll('[data-testid=stVegaLiteChart] svg:has(path)')"

WATCH = f"""
const before = {CHARTS}[0].outerHTML, main = document.querySelector('[data-testid=stMain]'), text = arguments[0];
let begun;
for (const kind of ['keydown', 'click'])
  document.addEventListener(kind, () => begun ??= performance.now(), {{capture: true, once: true}});
window.drawn = new Promise(done => (function look() {{
  if (begun && main.textContent.includes(text) && ![undefined, before].includes({CHARTS}[0]?.outerHTML))
    requestAnimationFrame(() => done(performance.now() - begun));
  else setTimeout(look, 10);
}})());"""
"""From a key or a click to the frame with another picture and this text; in the page, since a driver's look is slow."""

FRAMES = """
const done = arguments[0], box = document.querySelector('[data-testid=stVegaLiteChart] svg');
const {left, top, width, height} = box.getBoundingClientRect(), gaps = [];
let last = performance.now(), n = 0;
(function frame(now) {
  gaps.push(performance.now() - last); last = performance.now();
  const at = {bubbles: true, clientX: left + width * (0.1 + 0.8 * n / 120), clientY: top + height / 2};
  for (const kind of ['pointermove', 'mousemove']) box.dispatchEvent(new PointerEvent(kind, at));
  if (n++ < 120) requestAnimationFrame(frame); else done(gaps.slice(2));
})();"""
"""A mouse that crosses the first chart; the milliseconds between frames."""

Figures = dict[str, list[float]]


def a_round(prices: Path, home: Path, found: Figures) -> None:
    """Measure everything once."""
    with dashboard(prices, home) as address:
        for name in ("first page, first visit to a new server", "first page, next visit"):
            with chromium(1280, 900) as driver:
                found[name].append(opened(driver, f"{address}/?language=English", 2))
        with chromium(1280, 900) as driver:
            opened(driver, f"{address}/?language=English", 2)
            found["11 years as a line"].append(changed(driver, lambda: press(driver, "all")))
            found["11 years as candles"].append(changed(driver, lambda: press(driver, "candles")))
            gaps = driver.execute_async_script(FRAMES)
            found["frame"].append(median(gaps) / 1000)
            found["slowest frame"].append(max(gaps) / 1000)
            page = f"{address}/performance?language=English"
            found["Performance, nothing cached"].append(opened(driver, page, 5))
            found["Performance, next visit"].append(opened(driver, page, 5))
            for step in range(2, 11):
                sleep(LOOK)
                found["another step"].append(changed(driver, lambda: right(driver), f"At step {step}"))
            page = f"{address}/forecast?language=English"
            found["Forecast, nothing cached"].append(opened(driver, page, 1))
            found["Forecast, next visit"].append(opened(driver, page, 1))


def opened(driver: webdriver.Chrome, address: str, charts: int) -> float:
    """Seconds from the address to the page."""
    started = perf_counter()
    driver.get(address)
    until(driver, STILL.replace("return [", f"return [{CHARTS}.length >= {charts},"))
    return perf_counter() - started


def changed(driver: webdriver.Chrome, act: Callable[[], None], text: str = "") -> float:
    """Seconds from a click or a key to another picture, and this text."""
    driver.execute_script(WATCH, text)
    act()
    milliseconds: float = driver.execute_async_script("window.drawn.then(arguments[0])")
    return milliseconds / 1000


def press(driver: webdriver.Chrome, label: str) -> None:
    """A button."""
    [button] = [one for one in driver.find_elements("css selector", "button") if one.text.strip() == label]
    driver.execute_script("arguments[0].click()", button)


def right(driver: webdriver.Chrome) -> None:
    """The slider's next value."""
    driver.execute_script("document.querySelector('[data-testid=stSlider] input').focus()")
    ActionChains(driver).send_keys(Keys.ARROW_RIGHT).perform()


def report(found: Figures, rounds: int) -> str:
    """The table, slowest of all beside the medians."""
    frames = {name: found.pop(name) for name in ("frame", "slowest frame")}
    rows = "\n".join(
        f"| {name} | {median(values):.2f} s | {max(values):.2f} s | {_wanted(name)} |" for name, values in found.items()
    )
    smooth, worst = (1000 * median(values) for values in frames.values())
    return f"""# Speed of the dashboard

| from click to picture | median | slowest | wanted |
|---|---:|---:|---:|
{rows}

A mouse that crosses 11 years of candles: {smooth:.0f} ms a frame, {worst:.0f} ms the slowest one (medians).

Other work on both cores makes all of it up to twice as slow, and a step slower than it should be; here nothing went
before it (`nice -n -10`).

VALE3 since 2015, in headless Chromium on the server's own machine, {rounds} rounds, each with a new server on a fresh
home and new browsers. On: {machine()}. Again: `nice -n -10 python benchmarks/dashboard.py DIR`.
"""


def _wanted(name: str) -> str:
    return f"≤ {WANTED[name]:g} s" if name in WANTED else "–"


def main(prices: Path, rounds: int = 5) -> None:
    """Measure, and write the report."""
    found: Figures = defaultdict(list)
    for number in range(rounds):
        with TemporaryDirectory() as home:
            a_round(prices, Path(home), found)
        print(f"round {number + 1} of {rounds}")
    REPORT.write_text(report(found, rounds), encoding="utf-8")
    print(REPORT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *map(int, sys.argv[2:3]))
