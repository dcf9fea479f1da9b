from io import StringIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from rich.console import Console

from pregao.backtesting import plots
from pregao.backtesting.scores import COLUMNS, WalkForward
from pregao.evaluation.baselines import BASELINES
from pregao.evaluation.metrics import pinball_by_window
from pregao.evaluation.significance import diebold_mariano, loss_saved

Z = np.array([-1.64, -1.28, -0.67, 0, 0.67, 1.28, 1.64])
ALL_MODELS = ("shared", "own", *BASELINES)


def forecasts(models, stocks=("VALE3",), n=60, horizon=3, scale=0.02, shift=0.0, seed=0):
    """Random walks and bands around the last close, with a different width per model."""
    days, ahead, rows = pd.bdate_range("2022-05-02", periods=n + horizon + 1), np.arange(1, horizon + 1), []
    for number, stock in enumerate(stocks):
        closes = 30 * np.exp(np.random.default_rng((seed, number)).normal(0, scale, len(days)).cumsum())
        for place, model in enumerate(models):
            spread = scale * np.sqrt(ahead) * (1 + 0.3 * place)
            for t in range(n):
                point = np.full(horizon, closes[t] * np.exp(shift * place))
                key = [[stock, model, days[t], days[t + step], step] for step in ahead]
                bands = point[:, None] * np.exp(Z * spread[:, None])
                found = np.column_stack([closes[t + ahead], point, bands])
                rows += [[*one, *other] for one, other in zip(key, found, strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS)


def walk(*given, **choices):
    return WalkForward(forecasts(*given, **choices), "R$")


def shown(found):
    console = Console(width=80, file=StringIO())
    console.print(*found.terminal_tables(), sep="\n")
    return console.file.getvalue()


def score(found, model, column, stock="all", step="all"):
    rows = found.scores
    [value] = rows[(rows["stock"] == stock) & (rows["model"] == model) & (rows["step"] == step)][column]
    return value


def test_a_window_that_one_model_lacks_is_not_scored():
    table = forecasts(["last close", "shared"], ["VALE3", "PETR4"])
    days = sorted(table["cutoff"].unique())
    gone = (table["model"] == "shared") & (table["stock"] == "PETR4") & (table["cutoff"] < days[20])
    found = WalkForward(table[~gone].sample(frac=1, random_state=0), "R$")
    assert set(found.models) == {"last close", "shared"}
    for part in found.aligned.values():
        assert len(part.y) == 60 + 40
        assert part.cutoffs[part.stocks == "PETR4"].min() == days[20]
    one, other = found.aligned.values()
    assert np.array_equal(one.y, other.y)
    assert score(found, "last close", "windows") == 100


def test_a_window_without_one_of_its_steps_is_not_scored():
    table = forecasts(["shared", "last close"])
    found = WalkForward(table.drop(index=table[table["model"] == "shared"].index[4]), "R$")
    assert {len(part.y) for part in found.aligned.values()} == {59}


def test_one_stock_has_p_values_and_all_stocks_have_intervals():
    found = walk(["shared", "last close", "GJR-GARCH"], ["VALE3", "PETR4"], n=120)
    wide = {}
    for model, part in found.aligned.items():
        losses = pinball_by_window(part.y, part.quantiles)
        wide[model] = np.stack([losses[part.stocks == stock] for stock in ("VALE3", "PETR4")], axis=1)
    for name, column in (("last close", "naive"), ("GJR-GARCH", "garch"), (found.strongest, "strongest")):
        wanted = loss_saved(wide["shared"], wide[name])
        ends = [score(found, "shared", f"against_{column}{end}") for end in ("", "_low", "_high")]
        assert ends == pytest.approx([wanted.estimate, wanted.low, wanted.high])
    one = diebold_mariano(wide["shared"][:, 0], wide["last close"][:, 0], 3).p_value
    assert score(found, "shared", "p_naive", stock="VALE3") == pytest.approx(one)
    assert np.isnan(score(found, "shared", "p_naive"))
    alone = walk(["shared", "last close"], ["VALE3"])
    assert score(alone, "shared", "p_naive") == score(alone, "shared", "p_naive", stock="all") > 0


def test_the_strongest_baseline_leads_the_comparison():
    found = walk(["GJR-GARCH", "EWMA", "last close", "shared"], n=120)  # each wider than the one before
    assert found.strongest == "GJR-GARCH"
    text = shown(found)
    assert "strongest baseline: GJR-GARCH" in text
    saved = [f"{score(found, 'shared', f'against_strongest{end}'):+.2f}" for end in ("", "_low", "_high")]
    assert next(line for line in text.splitlines() if line.startswith("shared ")).split()[-3:] == saved
    assert score(found, "GJR-GARCH", "against_strongest") == 0
    assert walk(["shared"]).strongest is None


def test_periods_are_calendar_years_and_the_parts_before_and_from_the_reference_border():
    found = walk(["shared", "last close", "EWMA"], ["VALE3", "PETR4"], n=500)
    periods = found.periods.set_index(["period", "model"])
    names = ["2022", "2023", "2024", "before 2023-11-24", "from 2023-11-24"]
    assert list(dict.fromkeys(found.periods["period"])) == names
    days = found.forecasts["cutoff"]
    masks = {"2023": days.dt.year == 2023, "from 2023-11-24": days >= "2023-11-24"}
    for name, mask in masks.items():
        part = WalkForward(found.forecasts[mask], "R$")
        for column in ("windows", "coverage_90", "pinball", "against_naive", "against_naive_low", "against_naive_high"):
            assert periods.loc[(name, "shared"), column] == pytest.approx(score(part, "shared", column))
    assert periods.loc[("2022", "shared"), "windows"] + periods.loc[("2023", "shared"), "windows"] < 2 * 500
    text = shown(found)
    assert all(any(line.startswith(f"{name} ") for line in text.splitlines()) for name in names)


def test_without_garch_and_last_close_nothing_is_compared():
    scores = walk(["EWMA", "drift"]).scores
    assert scores[["skill_mape", "against_naive", "p_naive", "against_garch", "p_garch"]].isna().all(axis=None)
    assert scores[["rmse", "mape", "pinball"]].notna().all(axis=None)


def test_a_stock_on_which_a_baseline_lost_nothing_is_left_out_of_the_mean():
    table = forecasts(["shared", "last close"], ["VALE3", "PETR4"])
    still = table["stock"] == "PETR4"
    prices = ["y", "y_hat", *COLUMNS[7:]]
    table.loc[still & (table["model"] == "last close"), prices] = 20.0
    table.loc[still, "y"] = 20.0
    found = WalkForward(table, "R$")
    other = score(found, "shared", "against_naive", stock="VALE3")
    assert score(found, "shared", "against_naive") == pytest.approx(other)
    assert np.isnan(score(found, "shared", "against_naive", stock="PETR4"))


def test_errors_of_several_currencies_are_not_added_up():
    found = WalkForward(forecasts(["shared", "last close"], ["VALE3", "SP500"]), None)
    assert np.isnan(score(found, "shared", "rmse"))
    assert score(found, "shared", "rmse", stock="SP500") > 0
    assert score(found, "shared", "mape") > 0


@pytest.mark.parametrize("stocks", [("VALE3",), ("VALE3", "PETR4")])
def test_the_terminal_table_shows_every_model_within_80_columns(stocks):
    found = walk(ALL_MODELS, stocks, n=20, scale=0.03, shift=0.02)
    text = shown(found)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for model in ALL_MODELS:
        line = next(line for line in text.splitlines() if line.startswith(f"{model} "))
        assert f"{score(found, model, 'mape'):.3f}" in line
        assert f"{score(found, model, 'coverage_90'):.1f}" in line
        assert f"{score(found, model, 'against_strongest'):+.2f}" in line
    assert f"{20 * len(stocks)} forecasts, made 2022-05-02 to " in text
    assert ("2 stocks" if len(stocks) > 1 else "VALE3") in text


@pytest.mark.filterwarnings("ignore:invalid escape")  # of its docstrings, when they are compiled
def test_utilsforecast_scores_the_forecasts_of_a_backtest():
    losses = pytest.importorskip("utilsforecast.losses")
    from utilsforecast.evaluation import evaluate

    found = walk(["shared", "last close"], ["VALE3", "PETR4"])
    table = found.cross_validation()
    assert list(table)[:5] == ["unique_id", "ds", "cutoff", "y", "shared-lo-90"]
    first = table.iloc[0]
    rows = found.forecasts[(found.forecasts["stock"] == first["unique_id"]) & (found.forecasts["model"] == "shared")]
    row = rows[(rows["cutoff"] == first["cutoff"]) & (rows["date"] == first["ds"])].iloc[0]
    assert [first["y"], first["shared"], first["shared-lo-50"], first["shared-hi-90"]] == [
        row["y"], row["y_hat"], row["q25"], row["q95"]
    ]  # fmt: skip
    scored = evaluate(table, [losses.mae, losses.mape, losses.coverage], models=["shared", "last close"], level=[90])
    means = scored.groupby(["unique_id", "metric"])["shared"].mean()
    for stock in ("VALE3", "PETR4"):
        assert means[stock, "mae"] == pytest.approx(score(found, "shared", "mae", stock))
        assert 100 * means[stock, "mape"] == pytest.approx(score(found, "shared", "mape", stock))
        assert 100 * means[stock, "coverage_level90"] == pytest.approx(score(found, "shared", "coverage_90", stock))


def test_the_picture_is_drawn(tmp_path):
    found = walk(["shared", "last close", "GJR-GARCH"], ["VALE3", "PETR4"], n=420, horizon=2, shift=0.01)
    plots.backtest(found, tmp_path / "backtest.png")
    picture = imread(tmp_path / "backtest.png")
    assert picture.shape[:2] == (825, 1210)
    assert picture.std() > 0.05
