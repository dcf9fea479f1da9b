"""The pages in a real browser: drawn, used, and without an error in the page or its console."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from pregao.settings import REPOSITORY
from tests.api.conftest import free_port
from tests.conftest import environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="chromium or chromedriver is missing: apt-get install chromium chromium-driver",
    ),
]

PAGES = ("", "performance", "forecast", "experiments", "train")
WIDTHS = (1280, 390)

PROBES = "/_stcore/"
"""Streamlit asks below the page's own address first, and then where it answers."""

STATE = """return [
    document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') == 'notRunning',
    document.querySelectorAll('[data-testid=stSkeleton], [data-testid=stSpinner]').length == 0,
    document.querySelectorAll('h1').length == 1].every(Boolean)"""


@pytest.fixture(scope="module")
def address(home_with_runs, stocks, tmp_path_factory):
    # A copy: the server adds the shipped models to it, and the training that a test cancels.
    home = shutil.copytree(home_with_runs, tmp_path_factory.mktemp("browser") / "home")
    port = free_port()
    command = [sys.executable, "-m", "pregao.cli", "dashboard", f"port={port}", "source=csv", f"source.path={stocks}"]
    log = home / "dashboard.log"
    env = environment(home)
    with log.open("w") as file:
        process = subprocess.Popen(command, env=env, cwd=REPOSITORY, stdout=file, stderr=file)
    end = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).close()
            break
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) in (0, 143), log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--lang=pt-BR"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = shutil.which("chromium")
    driver = webdriver.Chrome(
        options, Service(shutil.which("chromedriver"), env={**os.environ, "TZ": "America/Sao_Paulo"})
    )
    yield driver
    driver.quit()


def wide(browser, pixels):
    size = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": pixels < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def settle(browser, condition=STATE, seconds=45):
    """Wait until the page has been still for half a second."""
    end, still = time.monotonic() + seconds, 0
    while still < 5:
        assert time.monotonic() < end, browser.find_element("tag name", "body").text
        still = still + 1 if browser.execute_script(condition) else 0
        time.sleep(0.1)


def text(browser):
    return browser.find_element("css selector", "[data-testid=stMain]").text


def faults(browser):
    shown = [
        e.text
        for e in browser.find_elements("css selector", "[data-testid=stException], [data-testid=stAlertContentError]")
    ]
    logged = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    return shown + [line for line in logged if PROBES not in line]


def press(browser, label):
    [button] = [one for one in browser.find_elements("css selector", "button") if one.text.strip().endswith(label)]
    browser.execute_script("arguments[0].click()", button)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_drawn_without_an_error_and_fits(browser, address, page, width):
    wide(browser, width)
    browser.get(f"{address}/{page}")
    settle(browser)
    assert not faults(browser)
    main = "document.querySelector('[data-testid=stMain]')"
    assert browser.execute_script(f"return {main}.scrollWidth <= {main}.clientWidth + 1")


def test_the_slider_draws_another_step(browser, address):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    wide(browser, 1280)
    browser.get(f"{address}/performance")
    settle(browser)
    assert "No passo 1" in text(browser)
    browser.execute_script("document.querySelector('[data-testid=stSlider] input').focus()")
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).perform()
    settle(browser)
    assert "No passo 3" in text(browser)
    assert not faults(browser)


def test_pasted_closes_are_forecast(browser, address):
    from selenium.webdriver.common.keys import Keys

    browser.get(f"{address}/forecast")
    settle(browser)
    press(browser, "colados")
    settle(browser)
    field = browser.find_element("css selector", "textarea")
    field.send_keys(" ".join(f"{50 + n % 7},{n % 10}" for n in range(25)))
    field.send_keys(Keys.CONTROL, Keys.ENTER)
    settle(browser)
    press(browser, "Prever")
    settle(browser)
    assert "Próximo pregão" in text(browser)
    assert "Baixar CSV" in text(browser)
    assert not faults(browser)


def test_a_file_of_brazilian_excel_is_forecast(browser, address, tmp_path):
    from tests.dashboard.test_forecast import WALK, brazilian

    file = tmp_path / "preços.csv"
    file.write_bytes(brazilian(WALK).encode("cp1252"))
    browser.get(f"{address}/forecast")
    settle(browser)
    press(browser, "de um arquivo")
    settle(browser)
    browser.find_element("css selector", "input[type=file]").send_keys(str(file))
    settle(browser)
    assert f"{WALK['close'].iloc[-1]:.2f}".replace(".", ",") in text(browser)
    assert not faults(browser)


def test_a_training_is_started_watched_and_cancelled(browser, address):
    browser.get(f"{address}/train")
    settle(browser)
    epochs = browser.find_element("css selector", "input[aria-label='Máximo de épocas']")
    epochs.send_keys("00")
    press(browser, "Treinar")
    settle(browser, "return document.body.innerText.includes('Treinando VALE3')")
    settle(browser, "return /Época [1-9]/.test(document.body.innerText)", seconds=60)
    press(browser, "Cancelar")
    settle(browser, "return document.body.innerText.includes('cancelado')")
    assert not faults(browser)


def test_the_language_is_switched(browser, address):
    wide(browser, 1280)
    browser.get(f"{address}/?stock=PETR4")
    settle(browser)
    browser.execute_script("[...document.querySelectorAll('label')].find(e => e.innerText == 'English').click()")
    settle(browser, "return document.querySelector('h1')?.innerText == 'Prices'")
    settle(browser)
    assert browser.find_element("css selector", "input[role=combobox]").get_attribute("value") == "PETR4"
    assert not faults(browser)
