import json
import logging

import mlflow
import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from pregao.backtesting.backtest import Backtest, log_how_to_resume
from pregao.backtesting.config import BacktestConfig
from pregao.backtesting.scores import COLUMNS
from pregao.cli import command as cli
from pregao.config import parse
from pregao.errors import InvalidChoice, PregaoError, StorageError, TrackingUnavailable, UnknownStock
from pregao.evaluation.baselines import BASELINES
from pregao.prices import calendar
from pregao.settings import settings
from tests.conftest import random_walk, settle

QUICK = ("start=2015-01-01", "first_cutoff=2024-07-01", "refit_every=3", "end=2024-12-30", "source=csv")
NETWORK = ("model.hidden_size=4", "trainer.max_epochs=1")
FEW = "models=[last close,EWMA]"
STOCKS = ("VALE3", "PETR4")


def config(folder, *overrides):
    """A backtest of two refits and half a year from a folder of csv files."""
    chosen = [*QUICK, *NETWORK, f"source.path={folder}", *overrides]
    with initialize_config_dir(str(cli.CONF), version_base=None):
        return parse(BacktestConfig, compose("backtest", chosen))


def backtest(folder, home, *overrides, name="1", **choices):
    run = home / "outputs/backtest" / name
    run.mkdir(parents=True, exist_ok=True)
    return Backtest(config(folder, *overrides), run, **choices)


def written(folder, tables):
    folder.mkdir(exist_ok=True)
    for stock, table in tables.items():
        table.to_csv(folder / f"{stock}.csv", index=False)
    return folder


def bits(outcome_folder):
    return pd.read_parquet(outcome_folder / "forecasts.parquet")


@pytest.fixture
def two():
    return {stock: random_walk(seed=seed) for seed, stock in enumerate(STOCKS)}


@pytest.fixture
def folder(tmp_path, two):
    return written(tmp_path / "prices", two)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, empty_database):
    """A finished backtest of two stocks by a network and three baselines, and its home and prices."""
    base = tmp_path_factory.mktemp("whole")
    tables = {stock: random_walk(seed=seed) for seed, stock in enumerate(STOCKS)}
    told = []
    with pytest.MonkeyPatch.context() as patch:
        home = settle(base, empty_database, patch)
        folder = written(base / "prices", tables)
        models = "models=[shared,last close,EWMA,GJR-GARCH]"
        outcome = backtest(
            folder, home, f"stocks=[{','.join(STOCKS)}]", models, progress=lambda *at: told.append(at)
        ).run()
    return outcome, home, tables, told


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """They take most of a small backtest's time; `whole` has one, and tests/evaluation looks at others."""
    monkeypatch.setattr("pregao.backtesting.plots.backtest", lambda walk, path: path.touch())


# no look-ahead


SLOW_BASELINES = ("ETS", "ARIMA")


@pytest.mark.parametrize(
    ("models", "model"),
    [
        (["shared"], "lstm"),
        ([name for name in BASELINES if name not in SLOW_BASELINES], "lstm"),
        pytest.param(SLOW_BASELINES, "lstm", marks=pytest.mark.slow),
        pytest.param(["shared", "own"], "lstm", marks=pytest.mark.slow),
        pytest.param(["shared", "own"], "absolute", marks=pytest.mark.slow),
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(given),
)
def test_a_poisoned_future_changes_no_bit_of_an_earlier_forecast(home, tmp_path, two, models, model):
    stop = pd.Timestamp("2024-11-05")  # amid the second period: its model may know nothing after its refit either
    poisoned = {
        stock: table.assign(close=np.where(table["date"] > stop, 3 * table["close"].to_numpy()[::-1], table["close"]))
        for stock, table in two.items()
    }
    made = []
    for name, tables in (("clean", two), ("poisoned", poisoned)):
        run = backtest(
            written(tmp_path / name, tables), home, "stocks=[VALE3,PETR4]", f"models=[{','.join(models)}]",
            f"model={model}", "model.hidden_size=4", name=name,
        )  # fmt: skip
        frame = bits(run.run().folder)
        made.append(frame[frame["cutoff"] <= stop].drop(columns="y"))
    clean, after = made
    assert clean["model"].nunique() == len(models)
    assert (clean["cutoff"] == stop).any()
    pd.testing.assert_frame_equal(clean, after, check_exact=True)


@pytest.mark.slow
def test_a_forecast_hangs_on_the_close_of_its_own_day(home, tmp_path, two):
    """The poisoned future could not fail if nothing hung on the closes."""
    stop = pd.Timestamp("2024-11-05")
    changed = {
        stock: table.assign(close=np.where(table["date"] == stop, 1.05 * table["close"], table["close"]))
        for stock, table in two.items()
    }
    made = []
    for name, tables in (("clean", two), ("changed", changed)):
        outcome = backtest(written(tmp_path / name, tables), home, "stock=VALE3", FEW, name=name).run()
        frame = bits(outcome.folder)
        made.append(frame[frame["cutoff"] == stop]["y_hat"].to_numpy())
    assert made[1] == pytest.approx(1.05 * made[0])


@pytest.mark.slow
def test_sliding_and_expanding_histories_give_other_forecasts(home, folder):
    made = [
        bits(backtest(folder, home, "models=[EWMA]", f"history={years}", name=str(years)).run().folder)
        for years in ("null", 1)
    ]
    assert (made[0]["y_hat"] == made[1]["y_hat"]).all()
    assert not (made[0]["q95"] == made[1]["q95"]).all()


# what it leaves


def test_the_table_is_tidy_and_every_model_has_the_same_rows(whole):
    outcome, _, tables, _ = whole
    frame = bits(outcome.folder)
    assert list(frame) == COLUMNS
    assert list(frame["model"].unique()) == ["shared", "last close", "EWMA", "GJR-GARCH"]
    rows = [part.drop(columns="model").iloc[:, :5].reset_index(drop=True) for _, part in frame.groupby("model")]
    for other in rows[1:]:
        pd.testing.assert_frame_equal(rows[0], other)
    days = tables["VALE3"]["date"]
    assert len(rows[0]) == 2 * 10 * len(days[days >= "2024-07-01"].iloc[:-10])
    assert (frame["q50"] == frame["y_hat"]).all()
    assert (np.diff(frame[COLUMNS[7:]], axis=1) >= 0).all()
    assert not frame.duplicated(["stock", "model", "cutoff", "step"]).any()
    closes = {(stock, row.date): row.close for stock, table in tables.items() for row in table.itertuples()}
    assert [closes[key] for key in zip(frame["stock"], frame["date"], strict=True)] == frame["y"].tolist()


def test_last_close_in_the_table_is_the_close_of_the_cutoff(whole):
    outcome, _, tables, _ = whole
    frame = bits(outcome.folder)
    naive = frame[frame["model"] == "last close"]
    closes = {(stock, row.date): row.close for stock, table in tables.items() for row in table.itertuples()}
    known = [closes[key] for key in zip(naive["stock"], naive["cutoff"], strict=True)]
    assert naive["y_hat"].tolist() == pytest.approx(known)


def test_scores_are_what_a_hand_finds_in_the_table(whole):
    outcome, *_ = whole
    frame = bits(outcome.folder)
    scores = pd.read_csv(outcome.folder / "scores.csv").set_index(["stock", "model", "step"])
    levels = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])
    for (stock, model, step), row in scores.iterrows():
        rows = frame[frame["model"] == model]
        rows = rows if stock == "all" else rows[rows["stock"] == stock]
        rows = rows if step == "all" else rows[rows["step"] == int(step)]
        error = rows["y"] - rows["y_hat"]
        miss = np.log(rows["y"].to_numpy())[:, None] - np.log(rows[COLUMNS[7:]].to_numpy())
        found = {
            "windows": len(rows) / (10 if step == "all" else 1),
            "rmse": np.sqrt((error**2).mean()),
            "mae": error.abs().mean(),
            "mape": 100 * (error.abs() / rows["y"]).mean(),
            "coverage_80": 100 * rows["y"].between(rows["q10"], rows["q90"]).mean(),
            "coverage_90": 100 * rows["y"].between(rows["q05"], rows["q95"]).mean(),
            "pinball": 1000 * np.where(miss > 0, levels * miss, (levels - 1) * miss).mean(),
        }
        assert {name: row[name] for name in found} == pytest.approx(found, abs=1e-5)
        naive = scores.loc[(stock, "last close", step), "mape"]
        assert row["skill_mape"] == pytest.approx(100 * (1 - found["mape"] / naive), abs=1e-3)
    assert set(scores.index.get_level_values("stock")) == {"all", *STOCKS}
    assert set(scores.index.get_level_values("step")) == {"all", *map(str, range(1, 11))}


def test_saved_pinball_and_p_values_stand_against_last_close_and_garch(whole):
    outcome, *_ = whole
    scores = pd.read_csv(outcome.folder / "scores.csv").set_index(["stock", "step", "model"]).sort_index()
    for column, name in (("naive", "last close"), ("garch", "GJR-GARCH")):
        for stock in STOCKS:
            rows = scores.loc[stock, "all"]
            wanted = 100 * (1 - rows["pinball"] / rows.loc[name, "pinball"])
            assert rows[f"against_{column}"].to_numpy() == pytest.approx(wanted.to_numpy(), abs=1e-3)
        # over all stocks each counts the same
        mean = np.mean([scores.loc[stock, "all"][f"against_{column}"] for stock in STOCKS], axis=0)
        assert scores.loc["all", "all"][f"against_{column}"].to_numpy() == pytest.approx(mean, abs=1e-5)
        known = scores.loc["all", "all"][f"p_{column}"]
        assert np.isnan(known[name])
        assert known.drop(name).between(0, 1).all()
        assert scores.drop("all", level="step")[f"p_{column}"].isna().all()


def test_progress_is_told_before_each_part_and_at_the_end(whole):
    *_, told = whole
    assert [(done, of) for done, of, _ in told] == [(done, 8) for done in range(9)]
    assert told[0][2] == "shared, from 2024-07-01"
    assert told[7][2] == "GJR-GARCH, from 2024-10-01"
    assert told[8][2] == "scores"


def test_mlflow_has_the_run_with_figures_and_files(whole, monkeypatch):
    outcome, home, *_ = whole
    monkeypatch.setenv("PREGAO_HOME", str(home))
    client = mlflow.MlflowClient(settings().tracking_uri)
    [run] = client.search_runs([client.get_experiment_by_name("backtest").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "1"
    scores = (
        pd.read_csv(outcome.folder / "scores.csv").set_index(["stock", "step", "model"]).sort_index().loc["all", "all"]
    )
    assert run.data.metrics["mape.shared"] == pytest.approx(scores.loc["shared", "mape"], abs=1e-6)
    assert run.data.metrics["pinball.GJR-GARCH"] == pytest.approx(scores.loc["GJR-GARCH", "pinball"], abs=1e-6)
    assert "p_naive.last_close" not in run.data.metrics
    wanted = {"stocks": "VALE3 PETR4", "first_cutoff": "2024-07-01", "refit_every": "3", "model.hidden_size": "4"}
    assert wanted.items() <= run.data.params.items()
    kept = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"forecasts.parquet", "scores.csv", "backtest.png", "backtest.json"} <= kept


@pytest.mark.slow
def test_an_own_network_is_the_shared_one_where_there_is_one_stock(home, folder):
    outcome = backtest(folder, home, "models=[shared,own,last close]").run()
    frame = bits(outcome.folder).set_index("model")
    shared, own = (frame.loc[name, COLUMNS[6:]].to_numpy() for name in ("shared", "own"))
    assert np.array_equal(shared, own)


# gone on with


class Stop(KeyboardInterrupt):
    pass


def stopping(after):
    def progress(done, of, text):
        if done == after:
            raise Stop

    return progress


def test_an_interrupted_backtest_goes_on_to_the_same_bits_and_repeats_no_part(
    home, whole, tmp_path, monkeypatch, caplog
):
    outcome, _, tables, _ = whole
    folder = written(tmp_path / "prices", tables)
    choices = ("stocks=[VALE3,PETR4]", "models=[shared,last close,EWMA,GJR-GARCH]")
    interrupted = backtest(folder, home, *choices, progress=stopping(5))
    with pytest.raises(Stop), log_how_to_resume(interrupted.folder):
        interrupted.run()
    assert f"hydra.run.dir={interrupted.folder}" in caplog.text
    parts = {path: path.stat().st_mtime_ns for path in interrupted.folder.glob("parts/*.parquet")}
    assert len(parts) == 5
    made = []
    monkeypatch.setattr(Backtest, "part", recording(made))
    again = backtest(folder, home, *choices).run()
    assert [(period.number, model) for period, model in made] == [(1, "last close"), (1, "EWMA"), (1, "GJR-GARCH")]
    assert {path: path.stat().st_mtime_ns for path in parts} == parts
    for name in ("forecasts.parquet", "scores.csv"):
        assert (again.folder / name).read_bytes() == (outcome.folder / name).read_bytes()
    client = mlflow.MlflowClient(settings().tracking_uri)
    runs = client.search_runs([client.get_experiment_by_name("backtest").experiment_id])
    assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED"]


def recording(made):
    part = Backtest.part

    def recorded(self, origins, period, model):
        made.append((period, model))
        return part(self, origins, period, model)

    return recorded


@pytest.mark.slow
def test_a_finished_backtest_that_is_given_again_makes_no_part(home, folder, monkeypatch):
    first = bits(backtest(folder, home, FEW).run().folder)
    made = []
    monkeypatch.setattr(Backtest, "part", recording(made))
    pd.testing.assert_frame_equal(bits(backtest(folder, home, FEW).run().folder), first, check_exact=True)
    assert made == []


def test_other_choices_in_the_same_folder_are_refused_and_nothing_is_lost(home, folder):
    run = backtest(folder, home, FEW)
    run.run()
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    for change in ("seed=1", "refit_every=6", "models=[EWMA]", "end=null", "stock=PETR4"):
        told = rf"holds a backtest with other choices \({change.split('=')[0]}\)\. .*hydra\.run\.dir"
        with pytest.raises(InvalidChoice, match=told):
            backtest(folder, home, FEW, change).run()
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_prices_that_changed_since_are_refused(home, folder, two):
    with pytest.raises(Stop):
        backtest(folder, home, FEW, progress=stopping(1)).run()
    written(folder, {"VALE3": two["VALE3"].assign(close=1.001 * two["VALE3"]["close"])})
    with pytest.raises(InvalidChoice, match="of other prices: the source has changed since"):
        backtest(folder, home, FEW).run()


def test_a_backtest_without_an_end_ends_where_it_was_begun_to(home, folder, monkeypatch):
    def today(day):
        monkeypatch.setattr("pregao.backtesting.backtest.last_finished_session", lambda _: day)
        monkeypatch.setattr(calendar, "last_finished_session", lambda *_: day)

    today(pd.Timestamp("2024-11-29").date())
    with pytest.raises(Stop):
        backtest(folder, home, FEW, "end=null", progress=stopping(3)).run()
    today(pd.Timestamp("2024-12-30").date())
    outcome = backtest(folder, home, FEW, "end=null").run()
    assert bits(outcome.folder)["date"].max() == pd.Timestamp("2024-11-29")
    client = mlflow.MlflowClient(settings().tracking_uri)
    runs = client.search_runs([client.get_experiment_by_name("backtest").experiment_id])
    assert {run.data.params["end"] for run in runs} == {"2024-11-29"}


DAMAGES = ("empty", "text", "other table", "no failures", "cut failures")


@pytest.mark.parametrize("damage", ["half", *(pytest.param(name, marks=pytest.mark.slow) for name in DAMAGES)])
def test_a_damaged_part_is_made_again_with_a_sentence(home, folder, damage, caplog):
    run = backtest(folder, home, FEW)
    first = bits(run.run().folder)
    part = run.folder / "parts/001 EWMA.parquet"
    match damage:
        case "half":
            part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
        case "empty":
            part.write_bytes(b"")
        case "text":
            part.write_text("forecasts")
        case "other table":
            pd.DataFrame({"a": [1]}).to_parquet(part)
        case "no failures":
            part.with_suffix(".json").unlink()
        case "cut failures":
            part.with_suffix(".json").write_text('["EWM')
    caplog.clear()
    again = bits(backtest(folder, home, FEW).run().folder)
    assert "001 EWMA.parquet is damaged (" in caplog.text
    pd.testing.assert_frame_equal(again, first, check_exact=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"choices": 1}', '{"choices": {}, "end": "soon"}'])
def test_a_damaged_backtest_json_is_refused(home, folder, text):
    run = backtest(folder, home, FEW)
    (run.folder / "backtest.json").write_text(text)
    with pytest.raises(InvalidChoice, match=r"backtest\.json is damaged"):
        run.run()


@pytest.mark.slow
def test_a_backtest_whose_tracker_goes_away_is_told_how_to_go_on(home, folder, caplog, monkeypatch):
    run = backtest(folder, home, FEW)

    def away(*_):
        raise TrackingUnavailable("http://nowhere", "no answer")

    monkeypatch.setattr("pregao.tracking.runs.Run.artifacts", away)
    with pytest.raises(TrackingUnavailable), log_how_to_resume(run.folder):
        run.run()
    assert f"hydra.run.dir={run.folder}" in caplog.text


def test_a_refusal_before_any_part_tells_nothing_of_going_on(tmp_path, caplog):
    for error in (StorageError("x", "full"), KeyboardInterrupt(), InvalidChoice("no")):
        with pytest.raises(type(error)), log_how_to_resume(tmp_path):
            raise error
    assert caplog.text == ""


# stocks that fail


def failing(home, tmp_path, tables, *overrides, caplog=None, stocks=None):
    chosen = f"stocks=[{','.join(stocks or tables)}]"
    return backtest(written(tmp_path / "prices", tables), home, chosen, *overrides).run()


def constant(table):
    return table.assign(close=20.0)


@pytest.mark.filterwarnings("ignore:.*constant:RuntimeWarning")
def test_a_stock_that_never_moves_fails_where_it_must_and_the_others_go_on(home, tmp_path, two, caplog):
    outcome = failing(home, tmp_path, two | {"PETR4": constant(two["PETR4"])}, "models=[own,last close,GJR-GARCH]")
    for refit in ("2024-07-01", "2024-10-01"):
        told = f"GJR-GARCH, PETR4, refit {refit}: The baseline 'GJR-GARCH' was given"
        assert any(failure.startswith(told) for failure in outcome.walk.failures)
        assert told in caplog.text
    frame = bits(outcome.folder)
    assert set(frame[frame["model"] == "last close"]["stock"]) == set(STOCKS)
    assert set(frame[frame["model"] == "GJR-GARCH"]["stock"]) == {"VALE3"}
    assert set(outcome.walk.aligned["own"].stocks) == {"VALE3"}
    half = len(frame[frame["model"] == "GJR-GARCH"]) // 10
    assert outcome.walk.failures[-1] == (f"{half} of {2 * half} forecasts are not judged: not every model made them.")


@pytest.mark.slow
def test_constant_prices_alone_are_judged_by_those_who_can(home, tmp_path, two):
    outcome = failing(home, tmp_path, {"VALE3": constant(two["VALE3"])}, "models=[shared,last close,EWMA,GJR-GARCH]")
    assert "GJR-GARCH made no forecast and is in no table." in outcome.walk.failures
    assert outcome.walk.models == ["shared", "last close", "EWMA"]
    overall = outcome.walk.scores[outcome.walk.scores["step"] == "all"].set_index("model")
    assert overall.loc["last close", "mape"] == pytest.approx(0)
    assert not np.isinf(overall.select_dtypes("number")).any(axis=None)


def test_where_nobody_makes_a_forecast_that_is_said(home, tmp_path, two):
    with pytest.raises(InvalidChoice, match=r"models: none of GJR-GARCH made a forecast \(GJR-GARCH, VALE3, refit"):
        failing(home, tmp_path, {"VALE3": constant(two["VALE3"])}, "models=[GJR-GARCH]")


def test_models_that_have_no_window_in_common_are_refused(home, tmp_path, two, monkeypatch):
    part = Backtest.part

    def halved(self, origins, period, model):
        table, failures = part(self, origins, period, model)
        wanted = (model == "EWMA") == (period.number == 0)
        return table.iloc[: None if wanted else 0], failures if wanted else ["it failed."]

    monkeypatch.setattr(Backtest, "part", halved)
    with pytest.raises(InvalidChoice, match="have no forecast of the same stock and day"):
        failing(home, tmp_path, {"VALE3": two["VALE3"]}, FEW)


@pytest.mark.parametrize("sessions", [60, pytest.param(25, marks=pytest.mark.slow)])
def test_a_stock_with_few_sessions_does_not_stop_the_others(home, tmp_path, two, sessions):
    tables = two | {"PETR4": two["PETR4"].tail(sessions)}
    outcome = failing(home, tmp_path, tables, "models=[shared,own,last close,GJR-GARCH]")
    told = "\n".join(outcome.walk.failures)
    if sessions == 60:
        assert "own, PETR4, refit 2024-10-01: " in told
        assert "GJR-GARCH, PETR4, refit 2024-10-01: The baseline" in told
        assert set(bits(outcome.folder).query("model == 'shared'")["stock"]) == set(STOCKS)
    else:
        assert "PETR4 is left out: 25 sessions, and 30 make one window" in told
    assert set(outcome.walk.aligned["own"].stocks) == {"VALE3"}


@pytest.mark.slow
def test_a_shared_model_that_cannot_be_fitted_in_a_period_fails_there_alone(home, tmp_path, two):
    late = {stock: table.tail(200) for stock, table in two.items()}
    first = str(late["VALE3"]["date"].iloc[30].date())
    outcome = failing(home, tmp_path, late, "models=[shared,last close]", f"first_cutoff={first}")
    told = [failure for failure in outcome.walk.failures if failure.startswith("shared, all stocks")]
    assert len(told) == 1
    assert f"refit {first}" in told[0]
    assert outcome.walk.models == ["shared", "last close"]
    judged = {name: len(part.y) for name, part in outcome.walk.aligned.items()}
    assert judged["shared"] == judged["last close"] > 0


def test_a_stock_that_jumps_by_a_quarter_is_forecast_like_any_other(home, tmp_path, two):
    jumped = two["VALE3"].copy()
    jumped.loc[jumped["date"] >= "2024-10-04", "close"] *= 0.75
    outcome = failing(home, tmp_path, {"VALE3": jumped}, "models=[shared,last close,EWMA,GJR-GARCH]")
    assert outcome.walk.failures == ()
    frame = bits(outcome.folder)
    assert np.isfinite(frame.select_dtypes("number")).all(axis=None)
    after = frame[(frame["cutoff"] == "2024-10-04") & (frame["model"] == "shared")]
    close = jumped.loc[jumped["date"] == "2024-10-04", "close"].item()
    assert after["y_hat"].to_numpy() == pytest.approx(np.full(10, close), rel=0.05)


@pytest.mark.slow
def test_stocks_with_other_sessions_are_each_forecast_on_their_own(home, tmp_path, two):
    days = two["PETR4"]["date"]
    halted = two["PETR4"][~days.between("2024-08-05", "2024-08-30") & (days != "2024-11-14")].reset_index(drop=True)
    outcome = failing(home, tmp_path, two | {"PETR4": halted}, "models=[shared,last close,EWMA,GJR-GARCH]")
    frame = bits(outcome.folder)
    petr4 = frame[(frame["stock"] == "PETR4") & (frame["model"] == "shared")]
    assert set(petr4["date"]) <= set(halted["date"])
    assert set(petr4["cutoff"]) < set(frame.loc[frame["stock"] == "VALE3", "cutoff"])
    overall = outcome.walk.scores.query("stock == 'all' and step == 'all'").set_index("model")
    assert 0 < overall.loc["shared", "p_garch"] < 1


@pytest.mark.slow
def test_a_stock_that_stands_still_for_a_month_is_forecast_with_finite_bands(home, tmp_path, two):
    halted = two["VALE3"].copy()
    month = halted["date"].between("2024-08-01", "2024-09-10")
    halted.loc[month, "close"] = halted.loc[month, "close"].iloc[0]
    outcome = failing(home, tmp_path, {"VALE3": halted}, "models=[shared,last close,EWMA,GJR-GARCH]")
    assert outcome.walk.failures == ()
    assert np.isfinite(bits(outcome.folder).select_dtypes("number")).all(axis=None)


@pytest.mark.slow
def test_a_stock_that_the_source_does_not_know_is_left_out_and_named(home, tmp_path, two):
    outcome = failing(home, tmp_path, two, FEW, stocks=(*STOCKS, "PETR9"))
    [told] = outcome.walk.failures
    assert told.startswith("PETR9 is left out: PETR9: csv knows no such stock")
    with pytest.raises(UnknownStock, match="PETR9: csv knows no such stock"):
        backtest(tmp_path / "prices", home, "stock=PETR9", FEW, name="2").run()


@pytest.mark.slow
def test_errors_in_two_currencies_are_not_added_up(home, tmp_path, two):
    outcome = failing(home, tmp_path, {"VALE3": two["VALE3"], "SP500": two["PETR4"]}, FEW)
    scores = outcome.walk.scores.set_index("stock")
    assert scores.loc["all", ["rmse", "mae"]].isna().all(axis=None)
    assert scores.loc[["VALE3", "SP500"], ["rmse", "mae"]].notna().all(axis=None)
    assert scores["mape"].notna().all()


def test_the_currency_is_that_of_all_stocks_or_none(home, folder):
    for stocks, currency in (("VALE3,PETR4", "R$"), ("SP500,NASDAQ", "US$"), ("VALE3,SP500", None)):
        assert backtest(folder, home, f"stocks=[{stocks}]").currency == currency


# refused


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("models=[EWMA,garch]", "models: garch: there is no such model. Allowed: shared, own, last close, drift,"),
        ("models=[]", "models="),
        ("stocks=[]", "stocks="),
        ("stock=SHARED", "SHARED: a backtest knows no such stock"),
        ("stocks=[VALE3,SHARED]", "SHARED: a backtest knows no such stock"),
        ("stock=../../x", "stock='../../x' is not a ticker"),
        ("first_cutoff=2025-01-02", "first_cutoff=2025-01-02 is after end=2024-12-30."),
        ("first_cutoff=2999-01-01", "first_cutoff=2999-01-01 is in the future"),
        ("first_cutoff=soon", "first_cutoff=soon is not a date."),
        ("end=later", "end=later is not a date."),
        ("start=2025-06-01", "start=2025-06-01 is after end=2024-12-30."),
        ("refit_every=0", "refit_every=0: should be greater than 0"),
        ("history=-1", "history=-1"),
        ("validation=0.9", "validation=0.9"),
        ("source.path=/nowhere", "source.path=/nowhere does not exist"),
        ("trainer.threads=0", "trainer.threads=0: should be greater than 0"),
    ],
)
def test_a_choice_is_refused_before_anything_starts(home, folder, given, said):
    with pytest.raises(PregaoError) as refused:
        backtest(folder, home, given)
    assert str(refused.value).startswith(said)
    assert not list((home / "outputs").rglob("*.*"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("first_cutoff=2024-12-20", "the prices end on 2024-12-30, and no forecast from that day on has 10 closes"),
        ("first_cutoff=2015-01-02", r"the prices begin on 20\d\d-\d\d-\d\d, and a model learns from what lies before"),
    ],
)
def test_a_first_cutoff_outside_the_prices_is_refused(home, folder, given, said):
    with pytest.raises(InvalidChoice, match=f"{given}: {said}"):
        backtest(folder, home, FEW, given).run()


def test_a_first_cutoff_before_the_start_is_refused(home, folder):
    with pytest.raises(InvalidChoice, match="first_cutoff=2024-07-01: the prices begin on 2024-08-01"):
        backtest(folder, home, FEW, "start=2024-08-01").run()


@pytest.mark.slow
def test_what_is_named_twice_counts_once(home, folder):
    twice = backtest(folder, home, "models=[EWMA,last close,EWMA]", "stocks=[VALE3,VALE3.SA,vale3]", name="twice")
    once = backtest(folder, home, "models=[EWMA,last close]", "stock=VALE3", name="once")
    one, two = (run.run() for run in (twice, once))
    assert one.walk.models == ["EWMA", "last close"]
    pd.testing.assert_frame_equal(bits(one.folder), bits(two.folder), check_exact=True)


def test_the_choices_are_kept_beside_the_forecasts(whole):
    outcome, *_ = whole
    kept = json.loads((outcome.folder / "backtest.json").read_text(encoding="utf-8"))
    assert kept["end"] == "2024-12-30"
    assert kept["choices"]["stocks"] == list(STOCKS)
    assert parse(BacktestConfig, kept["choices"]).first_cutoff == "2024-07-01"


@pytest.mark.slow
def test_the_log_is_quiet_where_nothing_fails(home, folder, caplog):
    with caplog.at_level(logging.WARNING):
        backtest(folder, home, FEW).run()
    assert [record for record in caplog.records if record.name.startswith("pregao.backtesting.backtest")] == []
