"""What a search goes through: ranges as Hydra writes them, read as Optuna's distributions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, QuotedString, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from pregao.errors import InvalidChoice, first_line

Space = Mapping[str, BaseDistribution]

SEARCHED = ("model", "optimizer", "data", "trainer")
"""Groups that a space may name; another stock, other dates or another split would be compared with what it is not."""


def distributions(given: Mapping[str, str] | None) -> dict[str, BaseDistribution]:
    """A space as Hydra writes ranges: `choice(8, 16)`, `range(1, 4)`, `tag(log, interval(1e-4, 1e-2))`.

    Raises:
        InvalidChoice: it is empty, names what cannot be searched, or holds what is no range.
    """
    if not given:
        raise InvalidChoice(
            "sweep.space is empty: there is nothing to search. Give it as conf/sweep/optuna.yaml does, or "
            "'sweep.space={model.hidden_size: \"choice(20, 40)\"}'."
        )
    for key in given:
        if key.partition(".")[0] not in SEARCHED:
            raise InvalidChoice(
                f"sweep.space.{key}: it cannot be searched, since trials would not be judged alike. Allowed are "
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
        reason = "one value is no range"
    raise InvalidChoice(
        f"sweep.space.{key}={text}: {reason}. Allowed are choice(8, 16), range(1, 4), interval(0, 0.5), "
        "tag(log, interval(1e-4, 1e-2))."
    )


def suggested(trial: Trial, key: str, one: BaseDistribution) -> Any:  # noqa: ANN401 - a choice may be anything
    """The trial's value of a setting."""
    match one:
        case CategoricalDistribution():
            return trial.suggest_categorical(key, one.choices)
        case IntDistribution():
            return trial.suggest_int(key, one.low, one.high, step=one.step, log=one.log)
        case FloatDistribution():
            return trial.suggest_float(key, one.low, one.high, log=one.log)
        case _:
            raise AssertionError(one)


def extremes(space: Space) -> Iterator[dict[str, Any]]:
    """Each key's extreme values, or all of a choice's: what is not allowed is refused before the first trial."""
    for key, one in space.items():
        if isinstance(one, CategoricalDistribution):
            values: Sequence[Any] = one.choices
        else:
            assert isinstance(one, IntDistribution | FloatDistribution)
            values = (one.low, one.high)
        yield from ({key: value} for value in values)
