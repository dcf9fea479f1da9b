import json
import subprocess

import pytest

from tests.api.conftest import client_of
from tests.conftest import random_walk
from tests.test_readme import lines


@pytest.mark.slow
def test_the_curl_calls_of_the_readme_work(tmp_path, monkeypatch):
    monkeypatch.setenv("PREGAO_HOME", str(tmp_path / "home"))
    random_walk(1500, last="2025-07-30").to_csv(tmp_path / "VALE3.csv", index=False)
    with client_of(tmp_path) as client:
        calls = [line.replace("localhost:5000", client.base_url.netloc.decode()) for line in lines("sh api")]
        predicted, trained, statistics = [json.loads(subprocess.check_output(["bash", "-c", call])) for call in calls]
    assert len(json.loads(predicted["preco"])) == 10
    assert predicted["model"]["version"] == 1
    assert trained["message"].startswith("Treino concluido com sucesso!")
    assert {run["run_id"] for e in statistics["experiments"] for run in e["runs"]} >= {trained["run_id"]}
