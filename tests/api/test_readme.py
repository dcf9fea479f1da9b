"""The README's curl calls, against a fresh server."""

import json
import subprocess

import pytest

from tests.api.conftest import Server
from tests.conftest import random_walk
from tests.test_readme import lines


@pytest.mark.slow
def test_the_curl_calls_work_as_they_are_written(tmp_path):
    random_walk(1500, last="2025-07-30").to_csv(tmp_path / "VALE3.csv", index=False)
    server = Server(tmp_path / "home", "source=csv", f"source.path={tmp_path}").wait()
    try:
        answers = [
            json.loads(
                subprocess.check_output(["bash", "-c", line.replace("localhost:5000", f"127.0.0.1:{server.port}")])
            )
            for line in lines("sh api")
        ]
    finally:
        server.end()
    predicted, trained, statistics = answers
    assert len(json.loads(predicted["preco"])) == 10
    assert predicted["model"]["version"] == 1
    assert trained["message"].startswith("Treino concluido com sucesso!")
    assert {run["run_id"] for e in statistics["experiments"] for run in e["runs"]} >= {trained["run_id"]}
