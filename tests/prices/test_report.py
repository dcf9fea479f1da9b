"""The command prices."""

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from pregao.cli.prices import main
from pregao.config import CONF
from pregao.errors import InvalidChoice
from pregao.prices.report import confirm
from tests.prices.conftest import prices_of, written
from tests.prices.records import put, record


@pytest.fixture
def report(capsys, monkeypatch):
    """Run the command in this process; returns its output."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*overrides):
        with initialize_config_dir(str(CONF), version_base=None):
            main.__wrapped__(compose("prices", list(overrides)))
        return capsys.readouterr().out

    return run


@pytest.fixture
def long(mine):
    """Prices with a missing session and a run of five identical closes."""
    closes = [20.0 + i / 10 for i in range(30)]
    closes[9:14] = [21.0] * 5
    written(mine, prices_of(closes).drop(index=20))
    return f"source.path={mine}", "source=csv", "start=2024-01-01", "end=2024-02-14"


def test_a_report_lists_the_findings_and_writes_a_picture_and_a_table(home, long, report, finished):
    finished("2024-02-14")
    out = report("stock=vale3", *long)
    assert "VALE3 from csv: 29 sessions, 2024-01-02 to 2024-02-14" in out
    assert "sessions missing" in out
    folder = home / "outputs/prices/VALE3"
    assert out.splitlines()[-1] == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["findings.csv", "report.png"]
    assert (folder / "report.png").read_bytes()[:4] == b"\x89PNG"
    assert pd.read_csv(folder / "findings.csv")["date"].tolist() == ["2024-01-30", "2024-01-15"]


def test_two_sources_are_compared_in_the_range_of_the_first(home, mine, long, report, tmp_path, finished):
    finished("2024-02-14")
    table = pd.read_csv(mine / "VALE3.csv")
    table.loc[:4, "close"] *= 2
    out = report(*long, "against=csv", f"against_path={written(tmp_path, table)}")
    assert "csv and csv have 29 dates in common; 5 differ by more than 0.1 %." in out
    assert "0.5000" in out
    differences = home / "outputs/prices/VALE3/differences.csv"
    assert len(pd.read_csv(differences)) == 5
    report(*long)
    assert not differences.exists()  # of the previous report


def test_a_likely_split_is_listed_and_applied_only_after_it_is_confirmed(tmp_path, report):
    days = pd.bdate_range("2024-02-15", periods=30)
    rows = [record(day, close=40.0, volume=500) for day in days[:15]]
    rows += [record(day, close=20.0 + n / 100, volume=1000) for n, day in enumerate(days[15:], 15)]
    put(tmp_path / "COTAHIST_A2024.TXT", rows, generated="20240401")
    asked = ("source=b3", f"source.path={tmp_path}", "start=2024-01-01", "end=2024-03-27")
    assert "a split of 2:1 on 2024-03-07: pregao prices VALE3 confirm=2024-03-07:2" in report(*asked)
    assert "jumps like" not in report(*asked, "confirm=2024-03-07:2")


@pytest.mark.parametrize("text", ["2024-03-07", "soon:2", *(f"2024-03-07:{n}" for n in ("", 0, "1/0", 1, 1001))])
def test_a_bad_confirmation_is_refused_before_anything_is_stored(home, vale3, text):
    with pytest.raises(InvalidChoice, match="DATE:RATIO"):
        confirm(vale3, text)
    assert not (home / "data").exists()
