"""What SECURITY.md promises: no pickle is run, no ticker leads anywhere, no secret is told."""

import json
import logging
import os
import pickle
import re
import runpy
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import mlflow
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pregao.errors import BadCheckpoint, CorruptModel, InvalidSymbol, TrackingUnavailable
from pregao.forecasting.compose import forecast_closes, forecast_stock
from pregao.prices import Downloader
from pregao.prices.cache import Cache
from pregao.prices.symbols import Symbol
from pregao.settings import REPOSITORY, settings
from pregao.tracking import client, registry
from pregao.training.pipeline import Pipeline
from tests.conftest import environment, random_walk, run, small_config

sys.path.insert(0, str(REPOSITORY / ".ci"))
import audit
import licences

CLOSES = random_walk(30)["close"].tolist()


class Bomb:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


@pytest.fixture
def bomb(tmp_path):
    """Its bytes, and the file that they would make; in the end it must turn out to be a real one."""
    file = tmp_path / "exploded"
    yield Bomb(file)
    assert not file.exists()
    pickle.loads(pickle.dumps(Bomb(file))).close()
    assert file.exists()


@pytest.fixture
def registered(home, prices):
    folder = home / "outputs/VALE3/1"
    folder.mkdir(parents=True)
    return Pipeline(small_config(prices), folder).run()


def artifacts(home):
    [model] = home.glob("mlruns/artifacts/VALE3/models/*/artifacts/MLmodel")
    return model.parent


def test_a_pickle_that_is_planted_among_an_mlflow_models_files_is_not_run(registered, home, bomb, vale3):
    folder = artifacts(home)
    (folder / "python_model.pkl").write_bytes(pickle.dumps(bomb))
    described = yaml.safe_load((folder / "MLmodel").read_text())
    described["flavors"]["python_function"] |= {"python_model": "python_model.pkl", "cloudpickle_version": "3.1.2"}
    described["flavors"]["python_function"].pop("model_code_path", None)
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    assert len(forecast_closes(CLOSES, "VALE3").rows) == 10


def test_a_pickle_in_place_of_an_mlflow_models_weights_is_not_run(registered, home, bomb, vale3):
    weights = artifacts(home) / "artifacts/model/model.safetensors"
    weights.write_bytes(pickle.dumps(bomb))
    with pytest.raises(CorruptModel):
        registry.champion(vale3)
    torch.save({"head": bomb}, weights)
    with pytest.raises(CorruptModel):
        registry.champion(vale3)


def test_a_pickle_in_a_shipped_models_folder_is_not_run(home, bomb, tmp_path, monkeypatch, vale3):
    models = tmp_path / "models"
    shutil.copytree(REPOSITORY / "models/VALE3", models / "VALE3")
    monkeypatch.setattr("pregao.settings.SHIPPED", models)
    for name in ("model.pkl", "python_model.pkl", "model.pt", "data.pickle"):
        (models / "VALE3" / name).write_bytes(pickle.dumps(bomb))
    assert len(forecast_closes(CLOSES, "VALE3").rows) == 10
    torch.save({"head": bomb}, models / "VALE3/model.safetensors")
    with pytest.raises(CorruptModel):
        registry.TrainedModel.load(models / "VALE3")


def test_a_pickle_in_place_of_a_checkpoint_is_not_run(registered, home, prices, bomb):
    checkpoint = home / "outputs/VALE3/1/checkpoints/last.ckpt"
    known = torch.load(checkpoint, weights_only=True)
    torch.save(known | {"loops": bomb}, checkpoint)
    again = home / "outputs/VALE3/2"
    again.mkdir()
    with pytest.raises(BadCheckpoint):
        Pipeline(small_config(prices, f"ckpt_path={checkpoint}", "trainer.max_epochs=4"), again).run()


ELSEWHERE = [
    "http://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/VALE3",
    "127.0.0.1:{port}",
    "VALE3@127.0.0.1:{port}",
    "VALE3.SA?x=http://127.0.0.1:{port}",
    "VALE3#@127.0.0.1:{port}/",
    "http://169.254.169.254/latest/meta-data",
    "file:///etc/passwd",
    "../../../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "/etc/passwd",
    "VALE3/../../../etc/passwd",
    "VALE3\\..\\..\\etc",
    "VALE3\0.csv",
    "VALE3\r\nHost: evil",
    "~root",
    "$(id)",
    "VALE3;id",
    "‮VALE3",
]


@pytest.fixture
def listener():
    """A port, and how many came to it."""
    came = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        ended = threading.Event()

        def accept():
            while not ended.is_set():
                try:
                    came.append(server.accept())
                except TimeoutError:
                    continue

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1], came
        ended.set()
        thread.join()
    for connection, _ in came:
        connection.close()


WATCHED: dict[str, list[str]] = {}
"""What was opened and called while a list is in it; a hook cannot be taken away again."""


def _watch(event, arguments):
    if "seen" in WATCHED and event in ("open", "socket.connect", "socket.getaddrinfo", "os.mkdir", "subprocess.Popen"):
        WATCHED["seen"].append(f"{event} {arguments!r}")


@pytest.fixture(scope="module")
def hook():
    sys.addaudithook(_watch)


@pytest.fixture
def seen(hook):
    WATCHED["seen"] = []
    yield WATCHED["seen"]
    del WATCHED["seen"]


@pytest.mark.parametrize("stock", ELSEWHERE, ids=ascii)
@pytest.mark.parametrize("source", ["auto", "yahoo", "csv"])
def test_a_hostile_ticker_opens_no_file_and_calls_nobody(home, prices, seen, stock, source):
    stock = stock.format(port=9)
    path = prices if source == "csv" else None
    Downloader(source, path)  # imports the source's module, which is a file too
    seen.clear()
    for ask in (
        lambda: forecast_stock(stock, source, path),
        lambda: Downloader(source, path).prices(stock, "2020-01-01", "2021-01-01"),
        lambda: forecast_closes(CLOSES, stock),
    ):
        with pytest.raises(InvalidSymbol):
            ask()
    assert seen == []


def test_the_watch_sees_what_it_is_for(seen, prices):
    (prices / "VALE3.csv").read_text()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", 9), timeout=1)
    assert any("VALE3.csv" in event for event in seen)
    assert any(event.startswith("socket.connect") for event in seen)


@given(st.text(max_size=40) | st.from_regex(r"[A-Za-z0-9./\\:@%~-]{1,12}(\.SA)?", fullmatch=True))
def test_whatever_is_taken_for_a_ticker_is_letters_and_digits(text):
    try:
        symbol = Symbol.parse(text)
    except InvalidSymbol:
        return
    assert re.fullmatch(r"[A-Z][A-Z0-9]{3,6}", symbol.ticker)
    assert re.fullmatch(r"\^[A-Z]+|[A-Z0-9]+\.SA", symbol.yahoo)
    assert Cache(Path("/home/x/data")).path(symbol).parent == Path("/home/x/data")


@pytest.mark.slow
def test_a_command_with_a_hostile_ticker_calls_nobody(home, listener):
    port, came = listener
    done = run("predict.py", f'stock="http://127.0.0.1:{port}/"', "source=yahoo", home=home)
    assert done.returncode == 2
    assert "is not a ticker" in done.stderr
    assert came == []


SECRET = "Tr0ub4dor"
ADDRESSES = [
    f"postgresql+psycopg://user:{SECRET}@127.0.0.1:9/mlflow",
    f"postgresql+psycopg://user:{SECRET}/x@y@127.0.0.1:9/mlflow",
    f"mysql://user:a@b{SECRET}@127.0.0.1/x",
    f"http://user:{SECRET}@127.0.0.1:9",
]


@pytest.mark.parametrize("uri", ADDRESSES)
def test_a_refusal_tells_no_password(uri, monkeypatch):
    told = str(TrackingUnavailable(uri, f"could not connect to {uri}"))
    assert SECRET not in told
    assert "127.0.0.1" in told
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("PREGAO_API_KEY", SECRET)
    assert SECRET not in repr(settings()) + str(settings())


@pytest.mark.parametrize("uri", ADDRESSES[:2])
def test_a_database_that_is_away_is_told_and_logged_without_its_password(home, uri, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 2)  # of 10, which take minutes
    with caplog.at_level(logging.DEBUG), pytest.raises(TrackingUnavailable) as refused:
        registry.served_stocks()
    assert SECRET not in str(refused.value) + caplog.text


@pytest.mark.slow
def test_a_command_leaves_no_secret_behind(home, prices):
    secrets = {"MLFLOW_TRACKING_URI": ADDRESSES[3], "PREGAO_API_KEY": f"{SECRET}-key"}
    source = ["source=csv", f"source.path={prices}"]
    command = [sys.executable, str(REPOSITORY / "train.py"), "stock=VALE3", *source, "hydra.verbose=true"]
    env = environment(home) | secrets
    done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    left = "".join(path.read_text(errors="replace") for path in home.rglob("*") if path.is_file())
    assert SECRET not in done.stdout + done.stderr + left


def test_what_a_run_logs_and_keeps_holds_no_secret(home, prices, monkeypatch, caplog):
    monkeypatch.setenv("PREGAO_API_KEY", SECRET)
    folder = home / "outputs/VALE3/1"
    folder.mkdir(parents=True)
    with caplog.at_level(logging.DEBUG):
        result = Pipeline(small_config(prices), folder).run()
    data = mlflow.MlflowClient(settings().tracking_uri).get_run(result.run_id).data
    kept = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert SECRET not in caplog.text + json.dumps([data.params, data.tags])
    assert SECRET.encode() not in kept


def test_mlflows_own_pages_are_started_without_a_password_on_the_command_line(home, monkeypatch):
    started = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESSES[0])
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "")
    monkeypatch.setattr(client, "prepared_client", lambda: None)
    monkeypatch.setattr(os, "execv", lambda program, words: started.append(words))
    runpy.run_module("pregao.tracking", run_name="__main__")
    assert started
    assert SECRET not in str(started)
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == ADDRESSES[0]


def report(*packages):
    return json.dumps({"dependencies": list(packages), "fixes": []})


CLEAN = {"name": "torch", "version": "2.13.0", "vulns": []}
SKIPPED = {"name": "rich", "skip_reason": "Dependency not found on PyPI and could not be audited: rich (15.0.0)"}
DEFECT = {"id": "PYSEC-2099-1", "aliases": ["CVE-2099-1"], "fix_versions": ["2.14.0"], "description": "bad"}
VULNERABLE = CLEAN | {"vulns": [DEFECT]}


@pytest.mark.parametrize(
    ("written", "accepted", "code", "said"),
    [
        (report(CLEAN), set(), audit.DONE, "No known vulnerability in 1 packages"),
        (report(VULNERABLE), set(), audit.VULNERABLE, "torch 2.13.0: PYSEC-2099-1, mended in 2.14.0"),
        (report(VULNERABLE, SKIPPED), set(), audit.VULNERABLE, "PYSEC-2099-1"),
        (report(VULNERABLE), {"CVE-2099-1"}, audit.DONE, "1 accepted"),
        (report(CLEAN, SKIPPED), set(), audit.NOT_AUDITED, "NOT AUDITED: .* nothing of 1 of 2 packages"),
        (report(), set(), audit.NOT_AUDITED, "NOT AUDITED"),
        ("", set(), audit.NOT_AUDITED, "NOT AUDITED"),
    ],
)
def test_an_audit_that_could_not_look_is_never_taken_for_a_clean_one(written, accepted, code, said):
    found, sentence = audit.verdict(written, accepted)
    assert found == code
    assert re.search(said, sentence)


def test_every_locked_package_is_in_the_table_of_licences_with_one_that_is_known():
    text = licences.TABLE.read_text(encoding="utf-8")
    rows = {
        row[0]: row for row in re.findall(r"^\| ([\w.-]+) \| (\S+) \| ([^|]+) \| (image|development) \|$", text, re.M)
    }
    assert {name: row[1] for name, row in rows.items()} == licences.locked()
    assert not [name for name, row in rows.items() if "UNKNOWN" in row[2]]


def test_every_copyleft_has_its_reason_and_none_that_binds_callers_is_in_the_image():
    text = licences.TABLE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w.-]+) \| \S+ \| ([^|]+) \| (image|development) \|$", text, re.M)
    assert {name for name, licence, _ in rows if licences.COPYLEFT.search(licence)} == set(licences.REASONS)
    for name, licence, place in rows:
        if re.search(r"(?<!L)GPL", licence):
            assert place == "development", name


def test_bandit_finds_nothing():
    command = [sys.executable, "-m", "bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive", "src"]
    commands = [str(path) for path in REPOSITORY.glob("*.py")]
    done = subprocess.run([*command, *commands], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
