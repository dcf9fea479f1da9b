"""The promises of SECURITY.md: no pickle is loaded, a ticker leads to no file or address, no secret is logged."""

import json
import logging
import os
import pickle
import re
import runpy
import socket
import sys
from pathlib import Path

import audit
import licences
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pregao.errors import CorruptModel, InvalidSymbol, TrackingUnavailable
from pregao.forecasting.compose import forecast_closes, forecast_stock
from pregao.prices import Downloader
from pregao.prices.cache import Cache
from pregao.prices.symbols import Symbol
from pregao.settings import settings
from pregao.tracking import client, registry
from pregao.training.pipeline import Pipeline
from tests.conftest import random_walk, small_config

CLOSES = random_walk(30)["close"].tolist()
SECRET = "Tr0ub4dor"


def train(home, prices):
    folder = home / "outputs/VALE3/1"
    folder.mkdir(parents=True)
    Pipeline(small_config(prices), folder).run()


class Bomb:
    """Its pickle creates a file when it is loaded."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


@pytest.fixture
def bomb(tmp_path):
    bomb = Bomb(tmp_path / "exploded")
    yield bomb
    assert not bomb.file.exists()
    pickle.loads(pickle.dumps(bomb)).close()
    assert bomb.file.exists()  # the test could have failed


def test_no_pickle_among_a_registered_models_files_is_loaded(home, prices, bomb, vale3):
    train(home, prices)
    [described] = home.glob("mlruns/artifacts/VALE3/models/*/artifacts/MLmodel")
    (described.parent / "python_model.pkl").write_bytes(pickle.dumps(bomb))
    card = yaml.safe_load(described.read_text())
    card["flavors"]["python_function"] |= {"python_model": "python_model.pkl", "cloudpickle_version": "3.1.2"}
    card["flavors"]["python_function"].pop("model_code_path", None)
    described.write_text(yaml.safe_dump(card))
    assert len(forecast_closes(CLOSES, "VALE3").rows) == 10
    weights = described.parent / "artifacts/model/model.safetensors"
    for plant in (lambda: weights.write_bytes(pickle.dumps(bomb)), lambda: torch.save({"head": bomb}, weights)):
        plant()
        with pytest.raises(CorruptModel):
            registry.trained(registry.champion(vale3))


HOSTILE = [
    *("http://127.0.0.1:{port}/", "//127.0.0.1:{port}/VALE3", "VALE3@127.0.0.1:{port}", "VALE3#@127.0.0.1:{port}/"),
    *("VALE3.SA?x=http://127.0.0.1:{port}", "file:///etc/passwd", "../../etc/passwd", "..%2f..%2fetc%2fpasswd"),
    *("VALE3/../../../etc/passwd", "VALE3\\..\\..\\etc", "VALE3\0.csv", "VALE3\r\nHost: evil", "~root", "$(id)"),
]
EVENTS = {"open", "socket.connect", "socket.getaddrinfo", "os.mkdir", "subprocess.Popen"}


@pytest.fixture(scope="module")
def seen():
    """The audited events of the process; a hook cannot be removed."""
    events = []
    sys.addaudithook(lambda event, arguments: events.append((event, arguments)) if event in EVENTS else None)
    return events


def test_a_hostile_ticker_opens_no_file_and_no_connection(home, prices, seen):
    sources = [(source, Downloader(source, path), path) for source, path in (("auto", None), ("csv", prices))]
    with socket.create_server(("127.0.0.1", 0)) as server:
        for stock in (text.format(port=server.getsockname()[1]) for text in HOSTILE):
            for source, downloader, path in sources:
                seen.clear()
                with pytest.raises(InvalidSymbol):
                    forecast_stock(stock, source, path)
                with pytest.raises(InvalidSymbol):
                    downloader.prices(stock, "2020-01-01", "2021-01-01")
                with pytest.raises(InvalidSymbol):
                    forecast_closes(CLOSES, stock)
                assert seen == []
        server.settimeout(0)
        with pytest.raises(BlockingIOError):  # curl's connections raise no audit event
            server.accept()
    (prices / "VALE3.csv").read_text()
    assert seen  # the test could have failed


@given(st.text(max_size=40) | st.from_regex(r"[A-Za-z0-9./\\:@%~-]{1,12}(\.SA)?", fullmatch=True))
def test_an_accepted_ticker_has_letters_and_digits_only(text):
    try:
        symbol = Symbol.parse(text)
    except InvalidSymbol:
        return
    assert re.fullmatch(r"[A-Z][A-Z0-9]{3,6}", symbol.ticker)
    assert re.fullmatch(r"\^[A-Z]+|[A-Z0-9]+\.SA", symbol.yahoo)
    assert Cache(Path("/home/x/data")).path(symbol).parent == Path("/home/x/data")


ADDRESSES = [
    f"postgresql+psycopg://user:{SECRET}/x@y@127.0.0.1:9/mlflow",
    f"mysql://user:a@b{SECRET}@127.0.0.1/x",
    f"http://user:{SECRET}@127.0.0.1:9",
]


@pytest.mark.parametrize("uri", ADDRESSES)
def test_no_password_is_in_the_settings_the_error_or_the_log_of_a_database(home, uri, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 2)  # of 10, which take minutes
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.DEBUG), pytest.raises(TrackingUnavailable) as refused:
        registry.served_stocks()
    assert SECRET not in str(refused.value) + caplog.text + repr(settings()) + str(settings())
    assert "127.0.0.1" in str(refused.value)


def test_no_secret_is_in_the_logs_and_files_of_a_run(home, prices, monkeypatch, caplog):
    monkeypatch.setenv("PREGAO_API_KEY", SECRET)
    monkeypatch.setenv("PREGAO_ADMIN_KEY", SECRET)
    assert SECRET not in repr(settings())
    with caplog.at_level(logging.DEBUG):
        train(home, prices)
    assert SECRET not in caplog.text
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_mlflow_is_started_without_a_password_on_its_command_line(home, monkeypatch):
    started = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESSES[0])
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "")
    monkeypatch.setattr(client, "prepared_client", lambda: None)
    monkeypatch.setattr(os, "execv", lambda program, words: started.append(words))
    runpy.run_module("pregao.tracking", run_name="__main__")
    assert started
    assert SECRET not in str(started)
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == ADDRESSES[0]


CLEAN = {"name": "torch", "version": "2.13.0", "vulns": []}
SKIPPED = {"name": "rich", "skip_reason": "Dependency not found on PyPI"}
VULNERABLE = CLEAN | {"vulns": [{"id": "PYSEC-2099-1", "aliases": ["CVE-2099-1"], "fix_versions": ["2.14.0"]}]}


@pytest.mark.parametrize(
    ("packages", "accepted", "code"),
    [
        ([CLEAN], set(), audit.DONE),
        ([VULNERABLE, SKIPPED], set(), audit.VULNERABLE),
        ([VULNERABLE], {"CVE-2099-1"}, audit.DONE),
        *((packages, set(), audit.NOT_AUDITED) for packages in ([CLEAN, SKIPPED], [])),
    ],
)
def test_an_audit_without_data_is_not_a_clean_one(packages, accepted, code):
    assert audit.verdict(json.dumps({"dependencies": packages, "fixes": []}), accepted)[0] == code
    assert audit.verdict("", accepted)[0] == audit.NOT_AUDITED


def test_the_licences_of_all_locked_packages_are_known_and_each_copyleft_has_a_reason():
    text = licences.TABLE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w.-]+) \| (\S+) \| ([^|]+) \| (image|development) \|$", text, re.M)
    assert {name: version for name, version, *_ in rows} == licences.locked()
    assert not [name for name, _, licence, _ in rows if "UNKNOWN" in licence]
    assert {name for name, _, licence, _ in rows if licences.COPYLEFT.search(licence)} == set(licences.REASONS)
    assert not [name for name, _, licence, place in rows if re.search(r"(?<!L)GPL", licence) and place == "image"]
