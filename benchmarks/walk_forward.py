"""Walk-forward 2022-01..2025-07, half-yearly refits, all stocks of DIR: python benchmarks/walk_forward.py DIR.

DIR contains STOCK.csv files (source=csv). Runs the Backtest of backtest.py in a temporary home. Writes
benchmarks/walk_forward.md.
"""

import logging
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from hydra import compose, initialize_config_dir
from machine import machine

from pregao.backtesting.backtest import Backtest
from pregao.backtesting.config import BacktestConfig
from pregao.backtesting.scores import ALL
from pregao.cli.command import CONF
from pregao.config import parse

TABLE = Path(__file__).with_suffix(".md")
MODELS = "models=[shared,last close,drift,mean return,rolling volatility,EWMA,GJR-GARCH]"
LAST = "end=2025-07-31"


def overall(scores: pd.DataFrame) -> list[str]:
    """One row per model, over all stocks and steps."""
    head = (
        "| model | MAPE % | skill % | in 80 % | in 90 % | by stock | pinball | saved against GJR-GARCH % | p "
        "| saved against last close % | p |"
    )
    lines = [head, "|---|" + "---:|" * 10]
    for row in scores[(scores["stock"] == ALL) & (scores["step"] == ALL)].to_dict("records"):
        own = scores[(scores["model"] == row["model"]) & (scores["stock"] != ALL)]["coverage_90"]
        cells = [f"{row['mape']:.3f}", f"{row['skill_mape']:+.2f}", f"{row['coverage_80']:.1f}"]
        cells += [f"{row['coverage_90']:.1f}", f"{own.min():.1f}–{own.max():.1f}", f"{row['pinball']:.3f}"]
        cells += [f"{row['against_garch']:+.2f}", f"{row['p_garch']:.3f}"]
        cells += [f"{row['against_naive']:+.2f}", f"{row['p_naive']:.3f}"]
        lines.append(f"| {row['model']} | {' | '.join(cells).replace('nan', '–')} |")
    return lines


def by_stock(scores: pd.DataFrame) -> list[str]:
    """One row per stock, of the network."""
    lines = ["| stock | windows | MAPE % | skill % | in 90 % | saved against GJR-GARCH % | p |", "|---|" + "---:|" * 6]
    for row in scores[(scores["model"] == "shared") & (scores["stock"] != ALL)].to_dict("records"):
        cells = [str(row["windows"]), f"{row['mape']:.3f}", f"{row['skill_mape']:+.2f}", f"{row['coverage_90']:.1f}"]
        cells += [f"{row['against_garch']:+.2f}", f"{row['p_garch']:.3f}"]
        lines.append(f"| {row['stock']} | {' | '.join(cells)} |")
    return lines


def main(prices: Path) -> None:
    """Print and write the tables."""
    logging.disable(logging.WARNING)
    stocks = sorted(path.stem for path in prices.glob("*.csv") if path.stem != "BVSP")
    chosen = ["source=csv", f"source.path={prices}", f"stocks=[{','.join(stocks)}]", MODELS, LAST]
    with initialize_config_dir(str(CONF), version_base=None):
        config = parse(BacktestConfig, compose("backtest", ["panel=ibovespa", *chosen]))
    with TemporaryDirectory() as home:
        os.environ["PREGAO_HOME"] = home
        outcome = Backtest(config, Path(home) / "backtest").run()
    note = (
        f"{len(stocks)} stocks; cutoffs from 2022-01-01, targets up to 2025-07-31; the network and every baseline are "
        "refitted every half-year on all closes since 2015; the network's bands use the online width known at each "
        f"cutoff. p: Diebold–Mariano test over the panel. Seed 6544. Run time: {outcome.seconds:.0f} s."
        f"\n\nMeasured on: {machine()}. To repeat: `make bench PRICES=DIR`."
    )
    scores = outcome.walk.scores
    text = "\n".join(["# Walk-forward", "", *overall(scores), "", *by_stock(scores), "", note, ""])
    print(text)
    TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
