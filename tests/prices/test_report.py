"""The report on the prices of a stock, as the command prices writes and shows it."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from pregao.errors import InvalidChoice
from pregao.prices.cotahist.store import Store
from pregao.prices.report import confirm
from pregao.settings import REPOSITORY
from tests.prices.records import record, text


def report(home, *arguments, **environment):
    """The command as a user runs it."""
    env = {**os.environ, "PREGAO_HOME": str(home), "COLUMNS": "200", **environment}
    command = [sys.executable, "-m", "pregao.cli", "prices", *map(str, arguments)]
    return subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)


@pytest.fixture
def mine(tmp_path, prices_of):
    folder = tmp_path / "mine"
    folder.mkdir()
    closes = [20.0 + i / 10 for i in range(30)]
    closes[9:14] = [21.0] * 5
    prices_of(closes).drop(index=20).to_csv(folder / "VALE3.csv", index=False)
    return folder


def test_a_report_lists_gaps_and_stale_runs_and_leaves_a_picture_and_tables(home, mine):
    done = report(home, "vale3", "source=csv", f"source.path={mine}", "start=2024-01-01")
    assert done.returncode == 0, done.stderr
    assert "VALE3 from csv: 29 sessions, 2024-01-02 to 2024-02-14" in done.stdout
    for line in ("sessions missing", "runs of 5 or more identical closes", "No second source is available"):
        assert line in done.stdout
    folder = home / "outputs/prices/VALE3"
    assert done.stdout.splitlines()[-1] == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["findings.csv", "report.png"]
    assert (folder / "report.png").read_bytes()[:4] == b"\x89PNG"
    findings = pd.read_csv(folder / "findings.csv")
    assert findings["date"].tolist() == ["2024-01-30", "2024-01-15"]


def test_two_sources_are_compared_and_every_differing_date_is_written(home, mine, tmp_path, prices_of):
    other = tmp_path / "other"
    other.mkdir()
    table = pd.read_csv(mine / "VALE3.csv")
    table.loc[:4, "close"] *= 2
    table.to_csv(other / "VALE3.csv", index=False)
    arguments = (
        "VALE3",
        "source=csv",
        f"source.path={mine}",
        "against=csv",
        f"against_path={other}",
        "start=2024-01-01",
    )
    done = report(home, *arguments)
    assert done.returncode == 0, done.stderr
    assert "csv and csv have 29 dates in common; 5 differ by more than 0.1 %." in done.stdout
    assert "0.5000" in done.stdout
    assert len(pd.read_csv(home / "outputs/prices/VALE3/differences.csv")) == 5


def test_a_likely_split_is_listed_and_applied_only_once_it_is_confirmed(home, tmp_path):
    days = pd.bdate_range("2024-02-15", periods=30)
    rows = [(day, (40.0, 500) if n < 15 else (20.0 + n / 100, 1000)) for n, day in enumerate(days)]
    (tmp_path / "COTAHIST_A2024.TXT").write_bytes(
        text([record(day, close=close, volume=volume) for day, (close, volume) in rows], generated="20240401")
    )
    asked = ("VALE3", "source=b3", f"source.path={tmp_path}", "start=2024-01-01")
    done = report(home, *asked)
    assert "jumps like a 2:1 split that the prices are not adjusted for" in done.stdout
    assert "a split of 2:1 on 2024-03-07: pregao prices VALE3 confirm=2024-03-07:2" in done.stdout
    done = report(home, *asked, "confirm=2024-03-07:2")
    assert done.returncode == 0, done.stderr
    assert "source=b3 now applies the split 2024-03-07:2 to VALE3." in done.stdout
    assert "jumps like" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "text", ["2024-03-07", "soon:2", "2024-03-07:", "2024-03-07:0", "2024-03-07:1/0", "2024-03-07:1"]
)
def test_a_confirmation_that_is_none_is_refused_before_anything_is_kept(home, vale, text):
    with pytest.raises(InvalidChoice, match=r"is not DATE:RATIO\. Write the first day at the new price"):
        confirm(vale, text)
    assert not (home / "data").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("PETROBRAS",), "stock='PETROBRAS' is not a ticker."),
        (("VALE3", "source=csv"), "source=csv needs source.path="),
        (
            ("VALE3", "against=bloomberg", "source=sample", "stock=SP500"),
            "source=bloomberg is not known. Allowed: auto",
        ),
        (("VALE3", "tolerance=-1"), "tolerance=-1: should be greater than or equal to 0"),
        (("VALE3", "agianst=b3"), "agianst: there is no such setting. Did you mean against?"),
        (("VALE3", "start=2030-02-30"), "start=2030-02-30 is not a date."),
    ],
)
def test_a_bad_input_is_a_sentence_and_exit_code_2(home, arguments, said):
    done = report(home, *arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(said)
    assert not (home / "outputs").exists()


def test_prices_that_cannot_be_used_are_refused_with_every_defect(home, tmp_path):
    (tmp_path / "VALE3.csv").write_text("date,close\n2024-01-02,10\n2024-01-03,-1\n2024-01-04,inf\n")
    done = report(home, "VALE3", "source=csv", f"source.path={tmp_path}")
    assert done.returncode == 2
    assert "infinite prices: 1 (2024-01-04); prices of zero or less: 1 (2024-01-03)" in done.stderr


def test_a_yahoo_cache_and_b3s_store_are_compared_unasked(home, prices_of, finished):
    folder = home / "data/b3"
    folder.mkdir(parents=True)
    table = prices_of([10.0, 11.0, 12.0])
    table.to_csv(home / "data/VALE3.csv", index=False)
    records = [record(day, close=close) for day, close in zip(table["date"], [10.0, 11.0, 12.5], strict=True)]
    (folder / "COTAHIST_A2024.TXT").write_bytes(text(records))
    Store(folder / "store").update([folder / "COTAHIST_A2024.TXT"])
    done = report(home, "VALE3", "start=2024-01-01", "end=2024-01-04")
    assert done.returncode == 0, done.stderr
    assert "cache and b3 have 3 dates in common; 1 differ by more than 0.1 %." in done.stdout
