"""A training whose configuration was checked, in this process or in a short-lived one: PyTorch knows the models.

python -m pregao.training.checked          arguments of `train_config` as JSON in, the result or a refusal as JSON out
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pregao.config import SourceChoices
from pregao.errors import PregaoError, answer_of, raise_refusal
from pregao.prices.symbols import Symbol
from pregao.training.config import LimitChoices, TrainConfig

SECONDS = 120


@dataclass(frozen=True)
class CheckedTraining:
    """A training that may start.

    Attributes:
        stock: the ticker.
        epochs: the maximum number.
        config: a TrainConfig as JSON.
    """

    stock: str
    epochs: int
    config: str

    @classmethod
    def of(cls, config: TrainConfig) -> "CheckedTraining":
        """Check the cost of a training.

        Raises:
            TrainingTooLarge: the estimated cost is above a limit.
        """
        from pregao.training.limits import refuse_too_large

        refuse_too_large(config)
        return cls(Symbol.parse(config.stock).ticker, config.trainer.max_epochs, config.model_dump_json())


def check_elsewhere(
    symbol: Symbol,
    start: str,
    end: str,
    source: SourceChoices,
    overrides: Mapping[str, Any],
    limits: LimitChoices,
) -> CheckedTraining:
    """Compose and check a training in another process; the arguments are those of `train_config`.

    Raises:
        InvalidChoice: conf/ does not allow a key or a value.
        TrainingTooLarge: the estimated cost is above a limit.
    """
    asked = {
        "symbol": symbol.ticker,
        "start": start,
        "end": end,
        "source": source.model_dump(mode="json"),
        "overrides": dict(overrides),
        "limits": limits.model_dump(mode="json"),
    }
    command = [sys.executable, "-m", "pregao.training.checked"]
    done = subprocess.run(
        command, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=True
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    raise_refusal(answer)
    return CheckedTraining(**answer)


def main() -> None:
    """Check the training on the standard input."""
    from pregao.training.compose import train_config

    asked = json.load(sys.stdin)
    try:
        config = train_config(
            Symbol.parse(asked["symbol"]),
            asked["start"],
            asked["end"],
            SourceChoices(**asked["source"]),
            asked["overrides"],
            LimitChoices(**asked["limits"]),
        )
        answer = asdict(CheckedTraining.of(config))
    except PregaoError as error:
        answer = answer_of(error)
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
