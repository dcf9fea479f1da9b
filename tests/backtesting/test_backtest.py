import json

import mlflow
import numpy as np
import pandas as pd
import pytest

from pregao.backtesting.config import BacktestConfig
from pregao.backtesting.scores import COLUMNS
from pregao.config import parse
from pregao.errors import InvalidChoice, PregaoError
from pregao.evaluation.baselines import BASELINES
from pregao.settings import settings
from tests.backtesting.conftest import ALL, STOCKS, backtest, table_of, written
from tests.conftest import random_walk, settle, with_ranges


@pytest.fixture(scope="module")
def whole(tmp_path_factory, empty_database):
    """A finished backtest of two stocks by a network and three baselines, its home, its prices and its progress."""
    base = tmp_path_factory.mktemp("whole")
    tables = {stock: random_walk(seed=seed) for seed, stock in enumerate(STOCKS)}
    progress = []
    with pytest.MonkeyPatch.context() as patch:
        home = settle(base, empty_database, patch)
        folder, stocks = written(base / "prices", tables), f"stocks=[{','.join(STOCKS)}]"
        outcome = backtest(folder, home, stocks, ALL, progress=lambda *at: progress.append(at)).run()
    return outcome, home, tables, progress


@pytest.fixture(autouse=True)
def fast(no_plots):
    """`whole` has the only plot."""


SLOW = {"ETS", "ARIMA", "own", "fine-tuned"}
QUICK = ["shared", *(name for name in BASELINES if name not in SLOW)]


@pytest.mark.parametrize("models", [QUICK, pytest.param(SLOW, marks=pytest.mark.slow)], ids=["quick", "slow"])
def test_a_poisoned_future_changes_no_bit_of_an_earlier_forecast(home, tmp_path, two, models):
    stop = pd.Timestamp("2024-11-05")  # inside the second period: its model is fitted on closes before the refit
    tables = {"clean": two, "poisoned": {}, "moved": {}}
    for stock, table in two.items():
        day, close = table["date"], table["close"]
        tables["poisoned"][stock] = table.assign(close=close.where(day <= stop, 3 * close.to_numpy()[::-1]))
        tables["moved"][stock] = table.assign(close=close.where(day != stop, 1.05 * close))
    made = []
    for name, closes in tables.items():
        prices = {stock: with_ranges(table) for stock, table in closes.items()}
        chosen = ("stocks=[VALE3,PETR4]", f"models=[{','.join(models)}]")
        table = table_of(backtest(written(tmp_path / name, prices), home, *chosen, name=name).run())
        made.append(table[table["cutoff"] <= stop].drop(columns="y").reset_index(drop=True))
    clean, after, moved = made
    assert clean["model"].nunique() == len(models)
    pd.testing.assert_frame_equal(clean, after, check_exact=True)
    # The test can fail: forecasts at the close of this day follow it.
    last = clean["cutoff"] == stop
    assert not moved[last].equals(clean[last])
    assert (moved.loc[last, "y_hat"] > 1.01 * clean.loc[last, "y_hat"]).all()
    pd.testing.assert_frame_equal(clean[~last], moved[~last], check_exact=True)


def test_fine_tuning_needs_a_model_of_many_stocks(home, folder):
    with pytest.raises(InvalidChoice, match="many stocks"):
        backtest(folder, home, "models=[fine-tuned]")


def test_a_sliding_history_gives_other_bands(home, folder):
    made = [
        table_of(backtest(folder, home, "models=[EWMA]", f"history={years}", name=str(years)).run())
        for years in ("null", 1)
    ]
    assert (made[0]["y_hat"] == made[1]["y_hat"]).all()
    assert not (made[0]["q95"] == made[1]["q95"]).all()


def test_the_table_is_tidy_and_every_model_has_the_same_rows(whole):
    outcome, _, tables, _ = whole
    table = table_of(outcome)
    assert list(table) == COLUMNS
    assert list(table["model"].unique()) == ["shared", "last close", "EWMA", "GJR-GARCH"]
    key = ["stock", "cutoff", "date", "step", "y"]
    rows, *others = (part[key].reset_index(drop=True) for _, part in table.groupby("model"))
    assert all(rows.equals(other) for other in others)
    days = tables["VALE3"]["date"]
    assert len(rows) == 2 * 10 * len(days[days >= "2024-07-01"].iloc[:-10])
    assert (table["q50"] == table["y_hat"]).all()
    assert (np.diff(table[COLUMNS[7:]], axis=1) >= 0).all()
    assert not table.duplicated(["stock", "model", "cutoff", "step"]).any()
    closes = {(stock, row.date): row.close for stock, prices in tables.items() for row in prices.itertuples()}
    assert [closes[key] for key in zip(table["stock"], table["date"], strict=True)] == table["y"].tolist()
    naive = table[table["model"] == "last close"]
    known = [closes[key] for key in zip(naive["stock"], naive["cutoff"], strict=True)]
    assert naive["y_hat"].tolist() == pytest.approx(known)


def test_scores_are_means_by_stock_model_and_step(whole):
    outcome, *_ = whole
    table = table_of(outcome)
    errors = 100 * (table["y"] - table["y_hat"]).abs() / table["y"]
    inside = 100.0 * table["y"].between(table["q05"], table["q95"])
    scores = pd.read_csv(outcome.folder / "scores.csv").set_index(["stock", "model", "step"])
    for (stock, model, step), row in scores.iterrows():
        rows = table["model"].eq(model) & table["stock"].isin(STOCKS if stock == "all" else [stock])
        rows &= table["step"].isin(range(1, 11) if step == "all" else [int(step)])
        assert row["mape"] == pytest.approx(errors[rows].mean(), abs=1e-5)
        assert row["coverage_90"] == pytest.approx(inside[rows].mean(), abs=1e-5)
    assert len(scores) == 4 * (11 + 2), "steps are scored over all stocks"


def test_saved_pinball_is_the_mean_over_stocks_and_p_values_are_of_one_stock_and_all_steps(whole):
    outcome, *_ = whole
    scores = pd.read_csv(outcome.folder / "scores.csv").set_index(["stock", "step", "model"]).sort_index()
    for column, name in (("naive", "last close"), ("garch", "GJR-GARCH")):
        losses = np.array([scores.loc[stock, "all"]["pinball"] for stock in STOCKS])
        bar = np.array([[scores.loc[(stock, "all", name), "pinball"]] for stock in STOCKS])
        overall = scores.loc["all", "all"]
        wanted = (100 * (1 - losses / bar)).mean(axis=0)
        assert overall[f"against_{column}"].to_numpy() == pytest.approx(wanted, abs=1e-3)
        known = scores.loc["VALE3", "all"][f"p_{column}"]
        assert np.isnan(known[name])
        assert known.drop(name).between(0, 1).all()
        assert overall[f"p_{column}"].isna().all()
        assert scores.drop("all", level="step")[f"p_{column}"].isna().all()


def test_progress_is_reported_before_each_part_and_at_the_end(whole):
    *_, progress = whole
    assert [(done, of) for done, of, _ in progress] == [(done, 8) for done in range(9)]
    assert [progress[at][2] for at in (0, 7, 8)] == ["shared, from 2024-07-01", "GJR-GARCH, from 2024-10-01", "scores"]


def test_mlflow_and_the_folder_have_choices_scores_and_files(whole, monkeypatch):
    outcome, home, *_ = whole
    monkeypatch.setenv("PREGAO_HOME", str(home))
    client = mlflow.MlflowClient(settings().tracking_uri)
    [run] = client.search_runs([client.get_experiment_by_name("backtest").experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "1")
    overall = outcome.walk.scores.set_index(["stock", "step", "model"]).sort_index().loc["all", "all"]
    assert run.data.metrics["mape.shared"] == pytest.approx(overall.loc["shared", "mape"], abs=1e-6)
    assert run.data.metrics["pinball.GJR-GARCH"] == pytest.approx(overall.loc["GJR-GARCH", "pinball"], abs=1e-6)
    assert "p_naive.last_close" not in run.data.metrics
    wanted = {"stocks": "VALE3 PETR4", "first_cutoff": "2024-07-01", "refit_every": "3", "model.hidden_size": "4"}
    assert wanted.items() <= run.data.params.items()
    kept = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"forecasts.parquet", "scores.csv", "backtest.png", "backtest.json"} <= kept
    written = json.loads((outcome.folder / "backtest.json").read_text(encoding="utf-8"))
    assert written["end"] == "2024-12-30"
    assert parse(BacktestConfig, written["choices"]).stocks == list(STOCKS)


def test_what_is_given_twice_counts_once_and_for_one_stock_the_shared_model_is_called_own(home, folder):
    stocks, models = "stocks=[VALE3,VALE3.SA,vale3]", "models=[shared,own,last close,shared]"
    outcome = backtest(folder, home, models, stocks).run()
    assert outcome.walk.models == ["own", "last close"]
    assert set(table_of(outcome)["stock"]) == {"VALE3"}
    assert outcome.walk.failures == ()


def constant(table):
    return table.assign(close=20.0)


@pytest.mark.filterwarnings("ignore:.*constant:RuntimeWarning")
def test_a_stock_with_constant_prices_fails_alone_and_is_not_scored(scored, two, caplog):
    outcome = scored(two | {"PETR4": constant(two["PETR4"])}, "models=[own,last close,GJR-GARCH]")
    for refit in ("2024-07-01", "2024-10-01"):
        failure = f"GJR-GARCH, PETR4, refit {refit}: The baseline 'GJR-GARCH' was given"
        assert any(found.startswith(failure) for found in outcome.walk.failures)
        assert failure in caplog.text
    table = table_of(outcome).groupby("model")["stock"]
    assert (set(table.get_group("last close")), set(table.get_group("GJR-GARCH"))) == (set(STOCKS), {"VALE3"})
    assert set(outcome.walk.aligned["own"].stocks) == {"VALE3"}
    half = len(table.get_group("GJR-GARCH")) // 10
    assert outcome.walk.failures[-1].startswith(f"{half} of {2 * half} forecasts are not scored")


def test_a_model_without_forecasts_is_left_out_of_the_scores(scored, two):
    outcome = scored({"VALE3": constant(two["VALE3"])}, ALL)
    assert "GJR-GARCH made no forecast and is not scored." in outcome.walk.failures
    assert outcome.walk.models == ["own", "last close", "EWMA"]
    overall = outcome.walk.scores[outcome.walk.scores["step"] == "all"].set_index("model")
    assert overall.loc["last close", "mape"] == pytest.approx(0)
    assert not np.isinf(overall.select_dtypes("number")).any(axis=None)


def test_a_backtest_without_any_forecast_is_refused(scored, two):
    with pytest.raises(InvalidChoice, match=r"models: none of GJR-GARCH made a forecast \(GJR-GARCH, VALE3, refit"):
        scored({"VALE3": constant(two["VALE3"])}, "models=[GJR-GARCH]")


@pytest.mark.parametrize("sessions", [60, 25])
def test_a_stock_with_few_sessions_does_not_stop_the_others(scored, two, sessions):
    tables = two | {"PETR4": two["PETR4"].tail(sessions)}
    outcome = scored(tables, "models=[shared,own,last close,GJR-GARCH]", stocks=(*STOCKS, "PETR9"))
    failures = "\n".join(outcome.walk.failures)
    assert "PETR9 is left out: PETR9: csv knows no such stock" in failures
    if sessions == 60:
        assert "own, PETR4, refit 2024-10-01: " in failures
        assert "GJR-GARCH, PETR4, refit 2024-10-01: The baseline" in failures
        assert set(table_of(outcome).query("model == 'shared'")["stock"]) == set(STOCKS)
    else:
        assert "PETR4 is left out: 25 sessions; one window needs 30" in failures
    assert set(outcome.walk.aligned["own"].stocks) == {"VALE3"}


def test_a_shared_model_that_cannot_be_fitted_in_a_period_fails_only_there(scored, two):
    late = {stock: table.tail(200) for stock, table in two.items()}
    first = str(late["VALE3"]["date"].iloc[30].date())
    outcome = scored(late, "models=[shared,last close]", f"first_cutoff={first}")
    [failure] = [failure for failure in outcome.walk.failures if failure.startswith("shared, all stocks")]
    assert f"refit {first}" in failure
    assert len(outcome.walk.aligned["shared"].y) == len(outcome.walk.aligned["last close"].y) > 0


def test_the_currency_is_that_of_all_stocks_or_none(home, folder):
    for stocks, currency in (("VALE3,PETR4", "R$"), ("SP500,NASDAQ", "US$"), ("VALE3,SP500", None)):
        assert backtest(folder, home, f"stocks=[{stocks}]").currency == currency


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("models=[EWMA,garch]", "models: garch: unknown. Allowed: shared, fine-tuned, own, last close,"),
        ("stock=SHARED", "SHARED: a backtest knows no such stock"),
        ("stocks=[VALE3,SHARED]", "SHARED: a backtest knows no such stock"),
        ("first_cutoff=2025-01-02", "first_cutoff=2025-01-02 is after end=2024-12-30."),
        ("start=2025-06-01", "start=2025-06-01 is after end=2024-12-30."),
        ("refit_every=0", "refit_every=0: should be greater than 0"),
        ("source.path=/nowhere", "source.path=/nowhere does not exist"),
        ("start=2024-07-01", "first_cutoff=2024-07-01: the prices begin on 2024-07-01"),
    ],
)
def test_a_choice_is_refused_before_a_part_is_computed(home, folder, given, said):
    with pytest.raises(PregaoError) as refused:
        backtest(folder, home, given).run()
    assert str(refused.value).startswith(said)
    assert not list((home / "outputs").rglob("*.parquet"))
