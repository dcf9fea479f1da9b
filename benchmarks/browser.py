"""The dashboard in headless Chromium, for pictures.py, dashboard.py and tests/dashboard."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from pregao.settings import REPOSITORY

STILL = """return [
    document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') == 'notRunning',
    document.querySelectorAll('[data-testid=stSkeleton], [data-testid=stSpinner]').length == 0,
    document.querySelectorAll('h1').length == 1].every(Boolean)"""
"""Streamlit has finished the page, and no element is loading."""

LOG = "dashboard.log"


@contextlib.contextmanager
def dashboard(prices: Path, home: Path) -> Iterator[str]:
    """The address of a dashboard for these prices; it logs to HOME/dashboard.log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "pregao.cli", "dashboard", f"port={port}", "source=csv", f"source.path={prices}"]
    env = {**os.environ, "PREGAO_HOME": str(home), "OMP_NUM_THREADS": "1"}
    with (home / LOG).open("w") as log:
        process = subprocess.Popen(command, env=env, cwd=REPOSITORY, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while not answers(f"{address}/_stcore/health"):
            assert time.monotonic() < end, (home / LOG).read_text(encoding="utf-8")
            time.sleep(0.1)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def answers(address: str) -> bool:
    """Whether a server answers."""
    with contextlib.suppress(OSError):
        urllib.request.urlopen(address, timeout=2).close()
        return True
    return False


@contextlib.contextmanager
def chromium(width: int, height: int, *arguments: str, **environment: str) -> Iterator[webdriver.Chrome]:
    """A browser of this size in pixels, with further arguments and environment variables."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = shutil.which("chromium") or ""
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver"), env={**os.environ, **environment}))
    try:
        resize(driver, width, height)
        yield driver
    finally:
        driver.quit()


def resize(driver: webdriver.Chrome, width: int, height: int) -> None:
    """Set the window size; below 500 pixels as a mobile device."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def until(driver: webdriver.Chrome, script: str, seconds: float = 60) -> None:
    """Wait for a condition, polled 40 times per second."""
    end = time.monotonic() + seconds
    while not driver.execute_script(script):
        assert time.monotonic() < end, driver.find_element("tag name", "body").text
        time.sleep(0.025)
