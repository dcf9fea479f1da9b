"""Errors on the published comparison's windows, beside last close: python benchmarks/reference_split.py DIR [STOCK …].

DIR holds STOCK.csv files (source=csv). Trains the default recipe on every stock and the published one on VALE3, through
the same Pipeline as train.py, without MLflow and without serving anything; writes benchmarks/reference_split.md.
"""

import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra import compose, initialize_config_dir
from machine import machine

from pregao.cli import CONF
from pregao.config import TrainConfig, parse
from pregao.errors import PregaoError
from pregao.evaluation.report import NAIVE, Evaluation
from pregao.pipeline import Pipeline

TABLE = Path(__file__).with_suffix(".md")
PUBLISHED = {"rmse": 2.992, "mape": 4.27}
HEAD = "| stock | recipe | RMSE R$ | last close's | MAPE % | last close's | skill MAPE % | in 80 % | in 90 % |"


def evaluate(prices: Path, stock: str, *overrides: str) -> Evaluation:
    """Train and judge one stock on the reference split."""
    chosen = [f"stock={stock}", "source=csv", f"source.path={prices}", "end=2025-07-27", "evaluation.split=reference"]
    with initialize_config_dir(str(CONF), version_base=None):
        config = parse(TrainConfig, compose("train", [*chosen, *overrides]))
    with TemporaryDirectory() as folder:
        pipeline = Pipeline(config, Path(folder))
        closes = pipeline.downloader.closes(pipeline.symbol, *pipeline.dates)
        split = pipeline.split(closes)
        model, _ = pipeline.fit(pipeline.prepare(split, closes), split, closes)
        return pipeline.evaluate(model, split)


def row(stock: str, recipe: str, evaluation: Evaluation) -> str:
    """One line of the table."""
    model, naive = evaluation.scores["model"], evaluation.scores[NAIVE]
    cells = [f"{model['rmse']:.3f}", f"{naive['rmse']:.3f}", f"{model['mape']:.3f}", f"{naive['mape']:.3f}"]
    cells += [f"{model['skill_mape']:+.2f}", f"{model['coverage_80']:.1f}", f"{model['coverage_90']:.1f}"]
    return f"| {stock} | {recipe} | {' | '.join(cells)} |"


def main(prices: Path, stocks: list[str]) -> None:
    """Print and write the table."""
    lines, skills = [HEAD, "|---|---|" + "---:|" * 7], []
    published = " | ".join(
        [f"{PUBLISHED['rmse']:.3f}", "1.864", f"{PUBLISHED['mape']:.2f}", "2.481", "-72.1", "–", "–"]
    )
    lines.append(f"| VALE3 | published model | {published} |")
    lines.append(row("VALE3", "`experiment=reference`", evaluate(prices, "VALE3", "experiment=reference")))
    print("\n".join(lines), flush=True)
    for stock in stocks:
        try:
            evaluation = evaluate(prices, stock)
        except PregaoError as error:
            lines.append(f"| {stock} | not judged: {error} |")
        else:
            skills.append(evaluation.scores["model"]["skill_mape"])
            lines.append(row(stock, "default", evaluation))
        print(lines[-1], flush=True)
    summary = (
        f"Default recipe, {len(skills)} stocks: median skill MAPE {statistics.median(skills):+.3f} %, "
        f"worst {min(skills):+.2f} %, best {max(skills):+.2f} %. One seed (6544), closes 2020-01-01..2025-07-27, "
        f"windows judged from 2023-11-24 on.\n\nMeasured on: {machine()}. Again: `make bench PRICES=DIR`."
    )
    print(summary)
    TABLE.write_text("# The reference split\n\n" + "\n".join(lines) + f"\n\n{summary}\n", encoding="utf-8")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    main(folder, sys.argv[2:] or sorted(path.stem for path in folder.glob("*.csv") if path.stem != "BVSP"))
