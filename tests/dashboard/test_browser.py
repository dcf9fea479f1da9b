"""The pages in Chromium: drawn and used, without an error in the page, its console or the server's log."""

import shutil
import time

import browser as browsing
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")), reason="chromium is missing"),
]

PROBES = "/_stcore/"
"""Streamlit requests this below the page's address first, where it gets a 404."""

PRESS = "[...document.querySelectorAll('button')].find(e => e.innerText.trim().endsWith(arguments[0])).click()"


@pytest.fixture(scope="module")
def address(home_with_runs, stocks, tmp_path_factory):
    # A copy: the server registers the shipped models, and a test cancels a training.
    home = shutil.copytree(home_with_runs, tmp_path_factory.mktemp("browser") / "home")
    with browsing.dashboard(stocks, home) as address:
        yield address
    assert "Traceback" not in (home / browsing.LOG).read_text()


@pytest.fixture(scope="module")
def chromium():
    with browsing.chromium(1280, 900, "--lang=pt-BR", TZ="America/Sao_Paulo") as driver:
        yield driver


@pytest.fixture
def browser(chromium):
    """Shows no error at the end of the test."""
    browsing.resize(chromium, 1280, 900)
    yield chromium
    errors = "[data-testid=stException], [data-testid=stAlertContentError]"
    assert [element.text for element in chromium.find_elements("css selector", errors)] == []
    logged = [line["message"] for line in chromium.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in logged if PROBES not in line] == []


def settle(browser, condition=browsing.STILL, seconds=45):
    """Wait until the condition has held for half a second."""
    end, count = time.monotonic() + seconds, 0
    while count < 5:
        assert time.monotonic() < end, browser.find_element("tag name", "body").text
        count = count + 1 if browser.execute_script(condition) else 0
        time.sleep(0.1)


@pytest.mark.parametrize("page", ["", "performance", "forecast", "experiments", "train"])
def test_a_page_fits_the_width_of_a_screen_and_of_a_telephone(browser, address, page):
    browser.get(f"{address}/{page}")
    main = "document.querySelector('[data-testid=stMain]')"
    for width in 1280, 390:
        browsing.resize(browser, width, 900)
        settle(browser)
        assert browser.execute_script(f"return {main}.scrollWidth <= {main}.clientWidth + 1")


def test_a_training_is_started_watched_and_cancelled(browser, address):
    browser.get(f"{address}/train")
    settle(browser)
    browser.find_element("css selector", "input[aria-label='Máximo de épocas']").send_keys("00")
    browser.execute_script(PRESS, "Treinar")
    settle(browser, "return /Treinando VALE3[^]*Época [1-9]/.test(document.body.innerText)", seconds=60)
    browser.execute_script(PRESS, "Cancelar")
    settle(browser, "return document.body.innerText.includes('cancelado')")
