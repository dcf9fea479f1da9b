"""`model=foundation`: a pretrained Chronos model from a local folder, as it is. Kept for comparison.

Chronos (Ansari et al. 2024) is trained on series of many domains. Here it sees the closes of the window, and forecasts
without training; only the width of its bands is calibrated. Its weights stay in the folder.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import BeforeValidator
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pregao.data.batch import Batch, Inputs
from pregao.data.volatility import NAMES
from pregao.errors import InvalidChoice, first_line
from pregao.models.base import ForecastModel
from pregao.quantiles import LEVELS

if TYPE_CHECKING:
    from chronos import BaseChronosPipeline

PACKAGE = "chronos"
"""Of chronos-forecasting, in the extra `foundation`."""

LARGEST_PART = 256
"""Windows that are forecast together: their activations need memory."""

SEED = 6544
"""Of the sample paths of a model without quantiles; each window has the same, so that it does not depend on others."""

NEEDED = "model=foundation needs the folder of a Chronos model, with config.json and model.safetensors"
DOWNLOAD = "Nothing is downloaded: copy such a folder to this machine, and give model.path=DIR"


def _folder(given: object) -> str:
    """The absolute path of a folder with a model.

    Raises:
        ValueError: what is missing, as a sentence.
    """
    if given in (None, ""):
        raise ValueError(f"no folder is given. {NEEDED}. {DOWNLOAD}")
    folder = Path(str(given)).expanduser().resolve()  # Hydra reads the name 2 as a number
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder. {NEEDED}. {DOWNLOAD}")
    missing = [name for name in ("config.json", "*.safetensors") if not any(folder.glob(name))]
    if missing:
        names = " and no ".join(missing)
        raise ValueError(f"{folder} has no {names}. {NEEDED}; pickled weights are not read. {DOWNLOAD}")
    if find_spec(PACKAGE) is None:
        raise ValueError(f"{PACKAGE}-forecasting is not installed. Install the extra: pip install '.[foundation]'")
    return str(folder)


class FoundationModel(ForecastModel):
    """Quantiles from a Chronos, Chronos-Bolt or Chronos-2 model.

    Its input is the logarithm of the ratio of each close to the last one. Sample paths are reduced to quantiles;
    quantiles at other levels are interpolated, and extrapolated beyond the outer ones, in normal scores.

    Args:
        horizon: sessions ahead.
        inputs: the measures, a key of `volatility.NAMES`; used only for the scale.
        path: the folder of the model.
    """

    served: ClassVar[bool] = False

    def __init__(self, *, horizon: int, inputs: str, path: Annotated[str, BeforeValidator(_folder)]) -> None:
        super().__init__(horizon, NAMES[inputs])
        try:
            # Not a module: its weights would be copied to every run.
            self.pipeline = _pipeline(Path(_folder(path)))
        except ValueError as error:
            raise InvalidChoice(f"model.path={path}: {error}.") from None

    def predict_normalized(self, inputs: Inputs) -> Float[Tensor, "batch horizon levels"]:
        """The quantiles of the Chronos model, sorted."""
        context = (inputs.closes / inputs.closes[:, -1:]).log().float().cpu()
        size = LARGEST_PART if hasattr(self.pipeline, "quantiles") else 1
        returns = torch.cat([self._log_returns(part) for part in torch.split(context, size)]).to(inputs.closes.device)
        return returns / self.scale(inputs)[..., None]

    def calibrate(self, batch: Batch) -> None:
        """Set the width at which the 90 % band contains 90 % of the validation part's closes."""
        self.fit_width(batch)

    def _log_returns(self, context: Float[Tensor, "batch lookback"]) -> Float[Tensor, "batch horizon levels"]:
        """Quantiles of the log return from the last close to each step."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            found = self.pipeline.predict(list(context), prediction_length=self.horizon)
        rows = torch.stack([each.reshape(-1, self.horizon) for each in found])  # quantiles or sample paths
        if not hasattr(self.pipeline, "quantiles"):
            return rows.quantile(self.levels, dim=1).permute(1, 2, 0)
        return at_levels(rows.sort(dim=1).values.transpose(1, 2), self.pipeline.quantiles)


def at_levels(
    quantiles: Float[Tensor, "batch horizon known"], known: list[float]
) -> Float[Tensor, "batch horizon levels"]:
    """Quantiles at `LEVELS` from increasing ones at the known levels, linear in the normal score of the level."""
    scores, wanted = (torch.tensor([NormalDist().inv_cdf(level) for level in levels]) for levels in (known, LEVELS))
    above = torch.searchsorted(scores, wanted).clamp(1, len(scores) - 1)
    weight = (wanted - scores[above - 1]) / (scores[above] - scores[above - 1])
    return torch.lerp(quantiles[..., above - 1], quantiles[..., above], weight)


@cache
def _pipeline(folder: Path) -> "BaseChronosPipeline":
    """The model in a folder, once per process.

    Raises:
        ValueError: the folder has no Chronos model, or not all of its weights.
    """
    from chronos import BaseChronosPipeline
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        found = BaseChronosPipeline.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
        missing = _missing(found.inner_model.state_dict(), folder)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"it cannot be read ({type(error).__name__}: {first_line(error)}). {NEEDED}") from error
    if missing:
        raise ValueError(f"its weights lack {len(missing)} tensors, {missing[0]} among them. {NEEDED}")
    return found


def _missing(state: dict[str, Tensor], folder: Path) -> list[str]:
    """The names of the weights that no file of the folder has: transformers makes them random, with a warning only."""
    held: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as stored:
            held |= set(stored.keys())
    # The same tensor has several names in a model, and one in a file.
    known = {state[name].data_ptr() for name in held if name in state}
    return [name for name, tensor in state.items() if name not in held and tensor.data_ptr() not in known]
