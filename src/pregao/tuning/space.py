"""The search space: Hydra's range syntax parsed into Optuna distributions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, QuotedString, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from pregao.errors import InvalidChoice, first_line
from pregao.tuning.config import INCOMPARABLE

Space = Mapping[str, BaseDistribution]

SEARCHED = ("model", "optimizer", "data", "trainer")
"""Groups with searchable settings; trials with different stocks, dates or splits would not be comparable."""


def distributions(given: Mapping[str, str] | None) -> dict[str, BaseDistribution]:
    """Parse a space such as `choice(8, 16)`, `range(1, 4)`, `tag(log, interval(1e-4, 1e-2))` per key.

    Raises:
        InvalidChoice: the space is empty, a key cannot be searched, or a value is not a range.
    """
    if not given:
        raise InvalidChoice(
            "sweep.space is empty: there is nothing to search. Give a space as in conf/sweep/optuna.yaml, or "
            "'sweep.space={model.hidden_size: \"choice(20, 40)\"}'."
        )
    for key in given:
        if key in INCOMPARABLE:
            raise InvalidChoice(f"sweep.space.{key}: {INCOMPARABLE[key]}. Search with one value of it.")
        if key.partition(".")[0] not in SEARCHED:
            raise InvalidChoice(
                f"sweep.space.{key}: it cannot be searched, because trials would not be comparable. Allowed are "
                f"settings of {', '.join(SEARCHED)}."
            )
    return {key: _distribution(key, text) for key, text in given.items()}


def _distribution(key: str, text: str) -> BaseDistribution:
    try:
        value = OverridesParser.create().parse_override(f"{key}={text}").value()
        match value:
            case ChoiceSweep():
                values: list[Any] = [item.text if isinstance(item, QuotedString) else item for item in value.list]
                return CategoricalDistribution(values)
            case RangeSweep(start=int(start), stop=int(stop), step=int(step)):
                return IntDistribution(start, stop - 1 - (stop - 1 - start) % step, step=step)
            case IntervalSweep(start=int(start), end=int(end)):
                return IntDistribution(start, end, log="log" in value.tags)
            case IntervalSweep(start=start, end=end):
                return FloatDistribution(start, end, log="log" in value.tags)
    except (HydraException, ValueError, TypeError) as error:
        reason = first_line(error)
    else:
        reason = "one value is not a range"
    raise InvalidChoice(
        f"sweep.space.{key}={text}: {reason}. Allowed are choice(8, 16), range(1, 4), interval(0, 0.5), "
        "tag(log, interval(1e-4, 1e-2))."
    )


def suggest(trial: Trial, key: str, distribution: BaseDistribution) -> Any:  # noqa: ANN401 - any type of choice
    """Ask the trial for the value of a setting."""
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(key, distribution.choices)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(key, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, log=log):
            return trial.suggest_float(key, low, high, log=log)
        case _:
            raise AssertionError(distribution)


def extreme_values(space: Space) -> Iterator[dict[str, Any]]:
    """The bounds of each range and all values of each choice, to be checked before the first trial."""
    for key, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            values: Sequence[Any] = distribution.choices
        else:
            assert isinstance(distribution, IntDistribution | FloatDistribution)
            values = (distribution.low, distribution.high)
        yield from ({key: value} for value in values)
