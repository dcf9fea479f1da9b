import json

import mlflow
import pandas as pd
import pytest

from pregao.backtesting.backtest import Backtest, log_how_to_resume
from pregao.errors import InvalidChoice
from pregao.prices import calendar
from pregao.settings import settings
from pregao.tracking.code import Code
from tests.backtesting.conftest import FEW, backtest, table_of, written


@pytest.fixture(autouse=True)
def fast(no_plots):
    """No test here looks at a plot."""


def stop_after(parts):
    def progress(done, of, text):
        if done == parts:
            raise KeyboardInterrupt

    return progress


def runs():
    client = mlflow.MlflowClient(settings().tracking_uri)
    return client.search_runs([client.get_experiment_by_name("backtest").experiment_id])


@pytest.fixture
def made(monkeypatch):
    """The parts that are computed, as period and model."""
    part, found = Backtest.part, []

    def recorded(self, origins, period, model):
        found.append((period.number, model))
        return part(self, origins, period, model)

    monkeypatch.setattr(Backtest, "part", recorded)
    return found


def test_an_interrupted_backtest_resumes_to_the_same_bits_and_repeats_no_part(home, folder, made, caplog):
    choices = ("stocks=[VALE3,PETR4]", "models=[shared,last close,EWMA]")
    whole = backtest(folder, home, *choices, name="whole").run()
    interrupted = backtest(folder, home, *choices, progress=stop_after(4))
    made.clear()
    with pytest.raises(KeyboardInterrupt), log_how_to_resume(interrupted.folder):
        interrupted.run()
    assert f"hydra.run.dir={interrupted.folder}" in caplog.text
    parts = {path: path.stat().st_mtime_ns for path in interrupted.folder.glob("parts/*.parquet")}
    assert len(parts) == len(made) == 4
    made.clear()
    again = backtest(folder, home, *choices).run()
    assert made == [(1, "last close"), (1, "EWMA")]
    assert {path: path.stat().st_mtime_ns for path in parts} == parts
    for name in ("forecasts.parquet", "scores.csv"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert sorted(run.info.status for run in runs()) == ["FINISHED", "FINISHED", "KILLED"]
    [code] = json.loads((again.folder / "backtest.json").read_text())["code"]
    assert code["commit"] == runs()[0].data.tags["mlflow.source.git.commit"]
    made.clear()
    backtest(folder, home, *choices).run()
    assert made == []


def test_a_backtest_that_other_code_resumes_names_both_commits(home, folder, monkeypatch, caplog):
    found = iter((Code("0.1.0", 40 * "a", False), Code("0.1.0", 40 * "b", True)))
    for code in found:
        monkeypatch.setattr("pregao.backtesting.backtest.code", lambda code=code: code)
        outcome = backtest(folder, home, FEW).run()
    state = json.loads((outcome.folder / "backtest.json").read_text())
    assert [each["commit"][0] for each in state["code"]] == ["a", "b"]
    assert "parts that other code computed (Pregão 0.1.0, commit aaaaaaaaaa); this is Pregão 0.1.0, commit bb" in (
        caplog.text
    )


def test_other_choices_or_prices_in_the_same_folder_are_refused_and_nothing_is_lost(home, folder, two):
    def files():
        return {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}

    run = backtest(folder, home, FEW)
    run.run()
    before = files()
    for change in ("seed=1", "refit_every=6", "models=[EWMA]", "end=null", "stock=PETR4"):
        with pytest.raises(InvalidChoice, match=rf"other settings \({change.split('=')[0]}\)\. .*hydra\.run\.dir"):
            backtest(folder, home, FEW, change).run()
    written(folder, {"VALE3": two["VALE3"].assign(close=1.001 * two["VALE3"]["close"])})
    with pytest.raises(InvalidChoice, match="of other prices: the source has changed"):
        backtest(folder, home, FEW).run()
    assert files() == before


def test_a_resumed_backtest_without_an_end_keeps_its_first_end(home, folder, monkeypatch):
    def today(day):
        monkeypatch.setattr("pregao.backtesting.backtest.last_finished_session", lambda _: day)
        monkeypatch.setattr(calendar, "last_finished_session", lambda *_: day)

    today(pd.Timestamp("2024-11-29").date())
    with pytest.raises(KeyboardInterrupt):
        backtest(folder, home, FEW, "end=null", progress=stop_after(3)).run()
    today(pd.Timestamp("2024-12-30").date())
    outcome = backtest(folder, home, FEW, "end=null").run()
    assert table_of(outcome)["date"].max() == pd.Timestamp("2024-11-29")
    assert {run.data.params["end"] for run in runs()} == {"2024-11-29"}


def test_the_last_session_is_finished_in_all_markets(home, folder, monkeypatch):
    days = {"BVMF": pd.Timestamp("2024-12-27").date(), "XNYS": pd.Timestamp("2024-12-26").date()}
    monkeypatch.setattr("pregao.backtesting.backtest.last_finished_session", days.__getitem__)
    for end in ("null", "2024-12-30"):
        assert backtest(folder, home, "stocks=[VALE3,SP500]", f"end={end}").end == days["XNYS"]
    assert backtest(folder, home, "end=2024-12-20").end == pd.Timestamp("2024-12-20").date()


def test_a_damaged_part_is_computed_again(home, folder, caplog):
    run = backtest(folder, home, FEW)
    first = table_of(run.run())
    part = run.folder / "parts/001 EWMA.parquet"
    failures = part.with_suffix(".json")
    for damage in (
        lambda: part.write_bytes(part.read_bytes()[: part.stat().st_size // 2]),
        lambda: part.write_bytes(b""),
        lambda: pd.DataFrame({"a": [1]}).to_parquet(part),
        failures.unlink,
        lambda: failures.write_text('["EWM'),
    ):
        damage()
        caplog.clear()
        again = table_of(backtest(folder, home, FEW).run())
        assert "001 EWMA.parquet is damaged (" in caplog.text
        pd.testing.assert_frame_equal(again, first, check_exact=True)
    caplog.clear()
    backtest(folder, home, FEW).run()
    assert "pregao.backtesting" not in {record.name.rpartition(".")[0] for record in caplog.records}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"choices": 1}', '{"choices": {}, "end": "soon"}'])
def test_a_damaged_backtest_json_is_refused(home, folder, text):
    run = backtest(folder, home, FEW)
    (run.folder / "backtest.json").write_text(text)
    with pytest.raises(InvalidChoice, match=r"backtest\.json is damaged"):
        run.run()
