"""Every code block of the README is run."""

import re
import subprocess

import pandas as pd
import pytest

from pregao.prices.calendar import last_finished_session
from pregao.settings import REPOSITORY
from tests.conftest import environment, random_walk

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def lines(language):
    return [line for block in blocks(language) for line in block.splitlines() if line]


COMMANDS = [line for line in lines("sh") if line.startswith(("python ", "pregao "))]
TARGETS = [line for line in lines("sh") if line.startswith("make ")]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A home whose cache is fresh, as it is after a download: no test machine reaches Yahoo."""
    home = tmp_path_factory.mktemp("reader")
    (home / "data").mkdir()
    last = str(last_finished_session("BVMF"))
    for seed, stock in enumerate(("VALE3", "PETR4")):
        table = random_walk(2000, seed, last)
        table.assign(adj_close=table["close"]).to_csv(home / "data" / f"{stock}.csv", index=False)
    return home


def bash(command, home):
    env = environment(home)
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_block_is_of_a_kind_that_is_run():
    kinds = re.findall(r"^```(.*)$", README, flags=re.MULTILINE)
    assert set(kinds) == {"sh", "sh api", "python", ""}
    assert len(COMMANDS) + len(TARGETS) == len(lines("sh"))


@pytest.mark.parametrize("line", TARGETS)
def test_a_make_target_exists(line, tmp_path):
    assert bash(f"{line} --dry-run", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_works_as_it_is_written(line, reader):
    assert bash(line, reader).strip()


@pytest.mark.slow
def test_what_make_train_runs_then_works_in_a_notebook(reader):
    bash("python train.py experiment=quickstart", reader)
    registered, trained = blocks("python")
    assert "upper_90" in bash(f"python - <<'EOF'\n{registered}\nEOF", reader)
    assert "test_mape" in bash(f"python - <<'EOF'\n{trained}\nEOF", reader)


def test_the_tables_figures_are_those_that_were_measured():
    measured = (REPOSITORY / "benchmarks/reference_split.md").read_text(encoding="utf-8")
    row = next(line for line in measured.splitlines() if line.startswith("| VALE3 | default"))
    rmse, naive_rmse, mape, naive_mape, skill = (cell.strip() for cell in row.split("|")[3:8])
    assert f"| **Pregão, default recipe** | **{rmse}** | **{mape}** | **{skill.replace('-', '−')}** |" in README
    assert f"| last close, repeated | {naive_rmse} | {naive_mape} | 0.00 |" in README
    reference = next(line for line in measured.splitlines() if "experiment=reference" in line).split("|")
    assert f"| {reference[3].strip()} | {reference[5].strip()} |" in README


def measured_rows(name, columns):
    text = (REPOSITORY / "benchmarks" / name).read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return {row[0]: row for row in rows if len(row) == columns}


def shown(*cells):
    return " | ".join("< 0.001" if cell == "0.000" else cell.replace("-", "−") for cell in cells)


def test_the_bands_figures_are_those_that_were_measured():
    recipes = measured_rows("reference_split.md", 10)
    for name in ("fine-tuned", "shared", "shared, `data.inputs=window`", "its own", "shared, mean of 3 seeds"):
        row = recipes[name]
        assert f"| {shown(row[2], row[4], row[5], row[6], row[9])} |" in README
    models = measured_rows("walk_forward.md", 11)
    for name in ("shared", "last close", "rolling volatility", "EWMA", "GJR-GARCH"):
        row = models[name]
        assert f"| {shown(row[1], row[4], row[5], row[7], row[8])} |" in README


def test_the_paths_that_it_names_exist():
    named = re.findall(r"^(?:src|models|benchmarks|conf)/[\w./]*", README, flags=re.MULTILINE)
    assert named
    assert all((REPOSITORY / path).exists() for path in named)
    for target in re.findall(r"\]\(([^)h#][^)]*)\)", README):
        assert (REPOSITORY / target).exists()


def test_the_readers_cache_is_what_a_download_leaves(reader):
    table = pd.read_csv(reader / "data/VALE3.csv")
    assert table["date"].iloc[-1] == str(last_finished_session("BVMF"))
