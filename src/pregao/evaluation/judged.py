"""A judged forecast as tables: what a run leaves in its folder, and what people look at."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pregao.evaluation.report import Evaluation

FORECASTS, SCORES, STEPS = FILES = ("evaluation.csv", "scores.csv", "steps.csv")

ERROR = "error"


@dataclass(frozen=True)
class Judged:
    """Tables of an evaluation.

    Attributes:
        forecasts: every forecast of the model, `stock cutoff date step y y_hat lower_80 … upper_90`, in the stock's
            currency.
        scores: of the model and its baselines over all steps, a row a stock and forecaster.
        steps: the same by step, with a column `step`.
    """

    forecasts: pd.DataFrame
    scores: pd.DataFrame
    steps: pd.DataFrame

    @classmethod
    def of(cls, evaluation: Evaluation) -> "Judged":
        """The tables of an evaluation."""
        return cls(evaluation.frame(), evaluation.by_stock, evaluation.by_step)

    @classmethod
    def read(cls, folder: Path) -> "Judged":
        """What `Evaluation.save` wrote.

        Raises:
            OSError: a file is missing.
        """
        forecasts = pd.read_csv(folder / FORECASTS, parse_dates=["cutoff", "date"])
        return cls(forecasts, pd.read_csv(folder / SCORES), pd.read_csv(folder / STEPS))

    @property
    def stocks(self) -> list[str]:
        """Whose forecasts were judged."""
        return sorted(map(str, self.forecasts["stock"].unique()))

    def of_stock(self, stock: str) -> "Judged":
        """One stock's part."""
        tables = (self.forecasts, self.scores, self.steps)
        return Judged(*(table[table["stock"] == stock].reset_index(drop=True) for table in tables))

    def at_step(self, step: int) -> pd.DataFrame:
        """The forecasts of one step, oldest first, with `error` = what came less what was forecast, in percent."""
        rows = self.forecasts[self.forecasts["step"] == step].sort_values("date")
        return rows.assign(**{ERROR: 100 * (rows["y"] - rows["y_hat"]) / rows["y"]})
