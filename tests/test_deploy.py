"""The files of deploy/, compose.yaml and the Dockerfile, by their own checkers and against the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pregao.api.collectors import ServedStocks, ServerProcesses
from pregao.api.monitoring import Monitoring
from pregao.settings import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
BOARD = json.loads((DEPLOY / "grafana/boards/pregao.json").read_text(encoding="utf-8"))
[RULES] = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
SERVICES = yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))["services"]
PROMQL = {"by", "sum", "min", "max", "rate", "increase", "histogram_quantile", "time", "vector", "or", "min_over_time"}


def run(name, *words, **variables):
    """The output of a tool of this environment or the machine."""
    program = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip(f"{name} is not installed")
    env = {**os.environ, **variables}
    done = subprocess.run([program, *words], cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "hadolint Dockerfile",
        "promtool check config --syntax-only deploy/prometheus/prometheus.yml",
        "promtool test rules deploy/prometheus/alerts_test.yml",
    ],
)
def test_a_checker_finds_nothing(command):
    run(*command.split())


def test_prometheus_reads_every_expression_of_the_board(tmp_path):
    rules = [{"record": f"board:{n}", "expr": text} for n, text in enumerate(EXPRESSIONS)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}).replace("$__rate_interval", "1m"))
    run("promtool", "check", "rules", str(file))


def test_compose_accepts_its_file_and_passes_the_secrets_on():
    secrets = {"PREGAO_API_KEY": "a key", "POSTGRES_PASSWORD": "a password"}
    resolved = yaml.safe_load(run("docker-compose", "--file", "compose.yaml", "config", **secrets))["services"]
    assert resolved["api"]["environment"]["PREGAO_API_KEY"] == "a key"
    assert "a password" in resolved["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]


def test_containers_are_closed_to_other_machines_and_show_no_password():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "ports" not in SERVICES["postgres"]
    for service in SERVICES.values():
        assert "PASSWORD" not in str(service.get("command", "")) + str(service.get("healthcheck", ""))
        if "build" in service:
            assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])
            assert "no-new-privileges:true" in service["security_opt"]


def test_copied_files_are_tracked_and_sent_to_the_builder():
    allowed = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    tracked = run("git", "ls-files").splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    sources = " ".join(copied).split()
    assert set(sources) <= set(allowed)
    for source in sources:
        assert any(fnmatch(path, source) or path.startswith(f"{source}/") for path in tracked), source


def test_the_board_and_the_alerts_use_metrics_that_the_server_exposes():
    monitoring = Monitoring()
    model = SimpleNamespace(card=SimpleNamespace(trained_at="2025-07-28T12:00:00+00:00"))
    models = SimpleNamespace(problems={}, served={"VALE3": SimpleNamespace(version=1, model=model)})
    prices = SimpleNamespace(newest_closes=lambda: {"VALE3": date(2025, 7, 28)})
    monitoring.registry.register(ServedStocks(SimpleNamespace(ready=True, registry=models, prices=prices)))
    monitoring.registry.register(ServerProcesses(os.getpid()))
    monitoring.answered("GET", "/health", 200, 0.001)
    metrics = {sample.name for family in monitoring.registry.collect() for sample in family.samples} | {"up"}
    for expression in EXPRESSIONS + [rule["expr"] for rule in RULES["rules"]]:
        bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\bby \([^)]*\)", " ", expression)
        words = set(re.findall(r"\b[a-zA-Z_]\w*", bare))
        assert words & metrics
        assert words <= metrics | PROMQL


def test_every_alert_has_a_test():
    tested = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for each in tested for case in each["alert_rule_test"] if "exp_alerts" in case}
    assert fired == {rule["alert"] for rule in RULES["rules"]}
