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

import hydra
import pytest
import yaml

from pregao.api.collectors import ServedStocks, ServerProcesses
from pregao.api.monitoring import Monitoring
from pregao.cli import command as cli
from pregao.config import parse
from pregao.dashboard.config import DashboardConfig
from pregao.settings import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
BOARD = json.loads((DEPLOY / "grafana/boards/pregao.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text(encoding="utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
COMPOSE = yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
COMMANDS = re.sub(r"\\\n", "", re.sub(r"^ *#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
INSTRUCTIONS = [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in COMMANDS if line)]
"""Name and arguments of each instruction, without comments and with continued lines joined."""
WORKFLOW = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
PROMQL = {"by", "sum", "min", "max", "rate", "increase", "histogram_quantile", "time", "vector", "or", "min_over_time"}


def asked(name):
    return [rest for instruction, rest in INSTRUCTIONS if instruction == name]


def last_stage():
    begin = max(number for number, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM")
    return INSTRUCTIONS[begin:]


def tool(name):
    """A tool of this environment, or of the machine."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def passes(*command, **variables):
    env = {**os.environ, **variables}
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hadolint_finds_nothing():
    passes(tool("hadolint"), "Dockerfile")


def test_every_stage_comes_from_one_base_that_is_pinned_by_tag_and_digest():
    first, *others = asked("FROM")
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64} AS python", first)
    assert all(other.split()[0] == "python" for other in others)


def test_the_image_installs_from_the_lock_alone():
    installs = [part for rest in asked("RUN") for part in rest.split("&&") if "pip install" in part]
    assert len(installs) == 4
    for install in installs:
        assert re.search(r"requirements\.lock|--no-deps --editable|setuptools==[\d.]+$", install.strip()), install


def test_the_last_stage_has_a_user_a_healthcheck_volumes_and_nothing_to_build_with():
    stage = dict(last_stage())
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", stage["USER"])
    assert "/health" in stage["HEALTHCHECK"]
    assert json.loads(stage["VOLUME"]) == [f"/home/pregao/{name}" for name in ("data", "outputs", "mlruns")]
    told = " ".join(rest for name, rest in last_stage() if name == "RUN")
    assert "pip uninstall" in told
    assert not re.search(r"pip install|apt-get|curl|wget", told)


def test_what_is_copied_is_tracked_and_let_through_to_the_builder():
    allowed = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    tracked = passes("git", "ls-files").splitlines()
    for rest in asked("COPY"):
        if rest.startswith("--from"):
            continue
        *sources, _ = rest.split()
        for source in sources:
            assert source in allowed
            assert any(fnmatch(path, source) or path.startswith(f"{source}/") for path in tracked), source


def test_no_index_but_torchs_own_is_named_and_another_may_be_chosen():
    assert re.findall(r"https?://(?!127\.0\.0\.1)[^\s']+", DOCKERFILE) == ["https://download.pytorch.org/whl/cpu"]
    assert any(rest.startswith("TORCH_INDEX=") for rest in asked("ARG"))


def test_ci_builds_the_image_and_asks_it_for_a_forecast():
    steps = " ".join(step.get("run", "") for step in WORKFLOW["jobs"]["image"]["steps"])
    assert re.search(r"docker build .*docker run .*/predict .*docker stop ", steps, re.DOTALL)


def test_one_compose_file_has_every_part():
    assert set(SERVICES) == {"api", "dashboard", "mlflow", "postgres", "prometheus", "grafana"}
    assert set(OURS) == {"api", "dashboard", "mlflow"}
    for service in SERVICES.values():
        volumes = [volume.split(":")[0] for volume in service.get("volumes", [])]
        assert all(name in COMPOSE["volumes"] or (REPOSITORY / name).exists() for name in volumes)
        assert set(service.get("depends_on", [])) <= set(SERVICES)


def test_other_peoples_images_are_pinned():
    for name in SERVICES.keys() - OURS.keys():
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?[a-z-]*", SERVICES[name]["image"])


def test_ports_are_open_to_this_machine_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len({port.split(":")[1] for port in ports}) == len(ports) == 5
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "ports" not in SERVICES["postgres"]


def test_the_dashboard_is_started_by_its_own_command_with_choices_that_it_knows():
    program, name, *overrides = SERVICES["dashboard"]["command"]
    assert (program, name) == ("pregao", "dashboard")
    with hydra.initialize_config_dir(str(cli.CONF), version_base=None):
        config = parse(DashboardConfig, hydra.compose("dashboard", overrides))
    assert SERVICES["dashboard"]["ports"] == [f"127.0.0.1:{config.port}:{config.port}"]
    assert f":{config.port}/" in str(SERVICES["dashboard"]["healthcheck"])
    assert config.host == "0.0.0.0"


@pytest.mark.parametrize("name", OURS)
def test_our_containers_may_write_to_their_volumes_only(name):
    service = OURS[name]
    assert service["read_only"]
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


def test_no_password_is_on_a_command_line():
    for service in SERVICES.values():
        assert "PASSWORD" not in str(service.get("command", "")) + str(service.get("healthcheck", ""))


def test_what_scrapes_and_draws_goes_where_the_services_are():
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    targets = {
        target for job in config["scrape_configs"] for each in job["static_configs"] for target in each["targets"]
    }
    assert targets == {"api:5000", "localhost:9090"}
    [source] = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert {panel["datasource"]["uid"] for panel in BOARD["panels"]} == {source["uid"]}
    [provider] = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/pregao.yml").read_text())["providers"]
    assert f"./deploy/grafana/boards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


def compose():
    """Docker's plugin where it is, else the program that was before it."""
    plugin = shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True)
    return ["docker", "compose"] if plugin and plugin.returncode == 0 else [tool("docker-compose")]


def test_compose_accepts_the_file():
    told = passes(
        *compose(), "--file", "compose.yaml", "config", PREGAO_API_KEY="a key", POSTGRES_PASSWORD="a password"
    )
    resolved = yaml.safe_load(told)["services"]
    assert resolved["api"]["environment"]["PREGAO_API_KEY"] == "a key"
    assert "a password" in resolved["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]


@pytest.mark.parametrize(
    "question",
    [
        ("check", "config", "--syntax-only", "deploy/prometheus/prometheus.yml"),
        ("check", "rules", "deploy/prometheus/alerts.yml"),
        ("test", "rules", "deploy/prometheus/alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing(question):
    passes(tool("promtool"), *question)


@pytest.fixture(scope="module")
def metrics():
    """The names of all samples that a server exposes, and `up`, which is Prometheus' own."""
    monitoring = Monitoring()
    card = SimpleNamespace(trained_at="2025-07-28T12:00:00+00:00")
    served = SimpleNamespace(version=1, model=SimpleNamespace(card=card))
    closes = {"VALE3": date(2025, 7, 28)}
    registry = SimpleNamespace(problems={}, served={"VALE3": served})
    prices = SimpleNamespace(newest_closes=lambda: closes)
    forecasts = SimpleNamespace(ready=True, registry=registry, prices=prices)
    monitoring.registry.register(ServedStocks(forecasts))
    monitoring.registry.register(ServerProcesses(os.getpid()))
    monitoring.answered("GET", "/health", 200, 0.001)
    return {sample.name for family in monitoring.registry.collect() for sample in family.samples} | {"up"}


EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
EXPRESSIONS += [rule["expr"] for rule in ALERTS]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_of_the_board_or_of_an_alert_uses_metrics_that_exist(metrics, expression):
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\bby \([^)]*\)", " ", expression)
    words = set(re.findall(r"\b[a-zA-Z_]\w*", bare))
    assert words & metrics
    assert words <= metrics | PROMQL, words - metrics - PROMQL


def test_prometheus_reads_every_expression_of_the_board(tmp_path):
    rules = [
        {"record": f"board:{n}", "expr": each.replace("$__rate_interval", "1m")} for n, each in enumerate(EXPRESSIONS)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    assert f"{len(rules)} rules found" in passes(tool("promtool"), "check", "rules", str(file))


def test_every_alert_has_a_test_a_summary_and_something_to_do():
    tested = (DEPLOY / "prometheus/alerts_test.yml").read_text()
    for rule in ALERTS:
        assert f"alertname: {rule['alert']}\n        exp_alerts:" in tested
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_panels_do_not_overlap():
    taken = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
