"""Checks of the model contract, like scikit-learn's `check_estimator`.

from pregao.testing import check_model
check_model(MyModel, hidden_size=8)
"""

import inspect
from collections.abc import Callable

import torch
from safetensors.torch import load, save
from torch import nn

from pregao.data.batch import Batch, Inputs
from pregao.data.stock_index import OTHER_STOCK
from pregao.data.volatility import NAMES, VOLATILITY_FLOOR
from pregao.models.base import ForecastModel
from pregao.quantiles import LEVELS

HORIZON, INPUTS, LOOKBACK, STOCKS = 10, "panel", 20, 3
FROM_DATA = {"horizon": HORIZON, "inputs": INPUTS, "lookback": LOOKBACK, "stocks": STOCKS}

VOLATILITY = 0.02
"""Daily, of the random walks that the checks use."""

WINDOWS = 2000

LEARNING_RATE, STEPS = 1e-2, 300
"""Of the check that a model can overfit one batch."""

Build = Callable[[], ForecastModel]


def check_model(model: type[ForecastModel], **choices: object) -> None:
    """Run every check of the contract.

    Args:
        model: the class. Constructor arguments that depend on the data are passed here.
        choices: the other constructor arguments; small sizes, since the model is trained on a few windows.

    Raises:
        AssertionError: the model violates the contract; the message says how.
    """
    taken = inspect.signature(model.__init__).parameters
    arguments = choices | {name: value for name, value in FROM_DATA.items() if name in taken}

    def build() -> ForecastModel:
        torch.manual_seed(0)
        return model(**arguments).eval()  # type: ignore[arg-type] # the types depend on the constructor

    check_choices(choices)
    for check in (
        *(check_shapes, check_finite_on_edges, check_quantiles_never_cross, check_windows_are_independent),
        *(check_scale_invariance, check_untrained_bands, check_poisoned_future, check_save_and_load),
        *(check_gradients, check_overfits_one_batch),
    ):
        check(build)


def check_choices(choices: dict[str, object]) -> None:
    """A configuration and a card contain scalars and lists of names only."""
    other = {
        name: value
        for name, value in choices.items()
        if not isinstance(value, str | int | float | bool | None)
        and not (isinstance(value, list) and all(isinstance(one, str) for one in value))
    }
    assert not other, f"choices have to be scalars or lists of names, so that a card can hold them: {other}"


def check_shapes(build: Build) -> None:
    """Prices [B, horizon, levels] in float64; a scalar loss."""
    model, batch = build(), random_walks(5)
    quantiles = model(batch.inputs)
    expected = (5, HORIZON, len(LEVELS))
    assert quantiles.shape == expected, f"forward returned {tuple(quantiles.shape)}, expected {expected}"
    assert quantiles.dtype == torch.float64, f"forward returned {quantiles.dtype}, expected float64 prices"
    assert model.loss(batch).shape == (), "loss has to return one number"


def check_quantiles_never_cross(build: Build) -> None:
    """Quantiles increase with their level for any weights."""
    batch = random_walks(200)
    for size in (0.0, 0.3, 1.0):
        model = _perturbed(_fitted(build(), batch), size)
        quantiles = model(batch.inputs)
        assert (quantiles > 0).all(), "forward returned a price that is not positive"
        assert (quantiles.diff(dim=-1) >= 0).all(), f"quantiles cross (weights changed at random by {size})"


def check_finite_on_edges(build: Build) -> None:
    """A halted stock and unknown measures give finite forecasts."""
    model = _fitted(build(), random_walks(200))
    inputs = random_walks(4).inputs
    unknown = inputs.measures.clone()
    unknown[:, 1:] = torch.nan
    halted = Inputs(torch.full_like(inputs.closes, 7.0), torch.full_like(unknown, VOLATILITY_FLOOR), inputs.stock)
    for name, edge in (("unknown measures", inputs._replace(measures=unknown)), ("a halted stock", halted)):
        assert torch.isfinite(model(edge)).all(), f"forward is not finite for {name}"


def check_windows_are_independent(build: Build) -> None:
    """The forecast of a window does not depend on the other windows of its batch."""
    batch = random_walks(40)
    model, inputs = _perturbed(_fitted(build(), batch), 0.3), batch.inputs
    other = Inputs(*(torch.cat([tensor[:20], tensor[20:].flip(0)]) for tensor in inputs))
    first, second = model(inputs)[:20], model(other)[:20]
    assert torch.allclose(first, second, rtol=1e-9, atol=0), "a forecast depends on the other windows of its batch"


def check_scale_invariance(build: Build) -> None:
    """Prices in another unit give the same forecast in that unit, unless `scale_invariant` is False."""
    batch = random_walks(50)
    model, inputs = _perturbed(_fitted(build(), batch), 0.3), batch.inputs
    if not model.scale_invariant:
        return
    scaled = model(inputs._replace(closes=1000 * inputs.closes))
    assert torch.allclose(scaled, 1000 * model(inputs), rtol=1e-9, atol=0), (
        "prices × 1000 do not give forecasts × 1000; scale inside the model, or declare scale_invariant = False"
    )


def check_untrained_bands(build: Build) -> None:
    """After `fit_statistics` and `calibrate`, and before any step, the bands of a random walk are sensible."""
    model = build()
    if not model.scale_invariant:
        return  # absolute prices start anywhere
    model = _fitted(model, random_walks(WINDOWS, seed=1))
    model.calibrate(random_walks(WINDOWS, seed=2))
    inputs, targets, _ = random_walks(WINDOWS, seed=3)
    quantiles = model(inputs)
    inside = (quantiles[..., 0] <= targets) & (targets <= quantiles[..., -1])
    held = 100 * inside.double().mean().item()
    assert 85 <= held <= 95, f"the untrained 90 % band holds {held:.1f} % of a random walk"


def check_save_and_load(build: Build) -> None:
    """The state_dict is all that a forecast needs."""
    batch = random_walks(200)
    model, inputs = _perturbed(_fitted(build(), batch), 0.3), batch.inputs
    model.calibrate(batch)
    again = build()
    again.load_state_dict(load(save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})))
    assert torch.equal(again(inputs), model(inputs)), (
        "a model that is loaded from its state_dict forecasts something else: register what is estimated as a buffer"
    )
    assert bool(again.fitted), "fitted has to be part of the state_dict"


def check_poisoned_future(build: Build) -> None:
    """`forward` does not see targets, and `fit_statistics` keeps none of the arrays that it was given."""
    batch = random_walks(200)
    model = _fitted(build(), batch)
    before = model(batch.inputs)
    batch.targets.mul_(10)
    batch.variances.mul_(10)
    assert torch.equal(model(batch.inputs), before), "a forecast changed with the targets after the fit"


def check_gradients(build: Build) -> None:
    """The loss reaches every weight; a model without weights is skipped."""
    batch = random_walks(64)
    model = _fitted(build(), batch)
    if not _weights(model):
        return
    _train(model, batch, steps=2)  # a head that starts at zero blocks the gradient in the first step
    _step(model, batch)
    missing = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not missing, f"no gradient reaches {', '.join(missing)}"


def check_overfits_one_batch(build: Build) -> None:
    """Training on one small batch lowers its loss by at least a third; a model without weights is skipped."""
    batch = random_walks(8)
    # Eight windows do not determine a regression, which is not what is checked here.
    model = _fitted(build(), random_walks(200))
    if not _weights(model):
        return
    first = model.loss(batch).item()
    last = _train(model, batch, STEPS)
    assert last < first * 2 / 3, f"{STEPS} steps on one batch took the loss from {first:.4g} to {last:.4g}"


def random_walks(windows: int, seed: int = 0) -> Batch:
    """Windows of random walks, with measures that scatter around the true volatility; every fourth is not known."""
    generator = torch.Generator().manual_seed(seed)
    columns = len(NAMES[INPUTS])
    returns = VOLATILITY * torch.randn(windows, LOOKBACK + HORIZON, generator=generator, dtype=torch.float64)
    prices = 50 * returns.cumsum(dim=1).exp()
    measures = VOLATILITY * (0.3 * torch.randn(windows, columns, generator=generator)).exp()
    measures[:, 0] = VOLATILITY
    measures[::4, 1:] = torch.nan
    stock = torch.arange(windows) % (STOCKS + 1) + OTHER_STOCK
    variances = VOLATILITY**2 * (0.5 * torch.randn(windows, HORIZON, generator=generator)).exp()
    inputs = Inputs(prices[:, :LOOKBACK].contiguous(), measures, stock)
    return Batch(inputs, prices[:, LOOKBACK:].contiguous(), variances)


def _fitted(model: ForecastModel, batch: Batch) -> ForecastModel:
    model.initialise(batch)
    return model


def _perturbed(model: ForecastModel, size: float) -> ForecastModel:
    """Weights that are no longer the initial ones."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(size * torch.randn_like(weight))
    return model


def _weights(model: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def _train(model: ForecastModel, batch: Batch, steps: int) -> float:
    optimizer = torch.optim.Adam(_weights(model), LEARNING_RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        _step(model, batch)
        optimizer.step()
    return model.loss(batch).item()


def _step(model: ForecastModel, batch: Batch) -> None:
    model.loss(batch).backward()  # type: ignore[no-untyped-call] # torch's
