"""A combination of models: the mean of their quantiles."""

import copy
import logging
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from pregao.data.batch import Batch, Inputs
from pregao.data.volatility import NAMES
from pregao.errors import InvalidChoice, PregaoError
from pregao.models.base import ForecastModel
from pregao.models.encoders import Dropout, HiddenSize, Layers, Shrinkage
from pregao.models.har import HarModel
from pregao.models.quantile_model import Loss, Start
from pregao.models.recurrent import RecurrentModel

logger = logging.getLogger(__name__)

Member = Literal["lstm", "gru", "har"]
Members = Annotated[list[Member], Field(min_length=1, max_length=5)]


class EnsembleModel(ForecastModel):
    """The mean of the members' log returns at each level; members are trained together, each on its own loss.

    A member that cannot be fitted is left out.

    Args:
        horizon: sessions ahead.
        inputs: the measures, a key of `volatility.NAMES`.
        members: names of conf/model.
        hidden_size: of the recurrent members, as the following arguments.
        num_layers: recurrent layers.
        dropout: after each layer.
        shrinkage: factor on the predicted median.
        start: what an untrained member is.
        loss: the training loss.
        stocks: number of training stocks.
    """

    active: Tensor

    def __init__(
        self,
        *,
        horizon: int,
        inputs: str,
        members: Members,
        hidden_size: HiddenSize,
        num_layers: Layers,
        dropout: Dropout,
        shrinkage: Shrinkage,
        start: Start,
        loss: Loss,
        stocks: int = 1,
    ) -> None:
        super().__init__(horizon, NAMES[inputs])
        if len(set(members)) < len(members):
            raise InvalidChoice(f"model.members={members}: a name is given twice. Give each model once.")
        self.hidden_size = hidden_size
        data: dict[str, Any] = {"horizon": horizon, "inputs": inputs, "stocks": stocks}
        recurrent: dict[str, Any] = {"hidden_size": hidden_size, "num_layers": num_layers, "dropout": dropout}
        recurrent |= {"shrinkage": shrinkage, "start": start, "loss": loss}
        self.members = nn.ModuleDict()
        for name in members:
            own = HarModel(**data) if name == "har" else RecurrentModel(cell=name, **data, **recurrent)
            self.members[name] = own
        self.register_buffer("active", torch.ones(len(members), dtype=torch.bool))

    @property
    def every_member(self) -> list[ForecastModel]:
        """The members, typed."""
        return [cast(ForecastModel, member) for member in self.members.values()]

    @property
    def fitted_members(self) -> list[ForecastModel]:
        """The members that are not left out."""
        return [member for member, active in zip(self.every_member, self.active.tolist(), strict=True) if active]

    @property
    def follows_outcomes(self) -> bool:
        """Only if every member does."""
        return all(member.follows_outcomes for member in self.fitted_members)

    def fit_statistics(self, batch: Batch) -> None:
        """Fit each member's statistics.

        Raises:
            InvalidChoice: no member can be fitted.
        """
        reasons = {}
        for place, (name, member) in enumerate(self.members.items()):
            try:
                cast(ForecastModel, member).initialise(batch)
            except PregaoError as error:
                self.active[place], reasons[name] = False, str(error)
                logger.warning("The member %s is left out of the ensemble: %s", name, error)
        if not self.active.any():
            raise InvalidChoice(
                f"model.members=[{','.join(reasons)}]: no member can be fitted. {next(iter(reasons.values()))}"
            )

    def refit(self, batch: Batch) -> None:
        """Each member's."""
        for member in self.fitted_members:
            member.refit(batch)

    def adopt(self, other: ForecastModel) -> None:
        """Each member from the other's member."""
        assert isinstance(other, EnsembleModel)
        self.active.copy_(other.active)
        self.fitted.copy_(other.fitted)
        for name, member in self.members.items():
            cast(ForecastModel, member).adopt(cast(ForecastModel, other.members[name]))

    def starting_point(self) -> ForecastModel | None:
        """The ensemble of the members' starting points; None if they are random."""
        starts = {name: cast(ForecastModel, member).starting_point() for name, member in self.members.items()}
        if not any(starts.values()):
            return None
        start = copy.deepcopy(self)
        for name, member in starts.items():
            if member is not None:
                start.members[name] = member
        return start

    def predict_normalized(self, inputs: Inputs) -> Float[Tensor, "batch horizon levels"]:
        """The mean of the members' log returns, in units of `scale`."""
        parts = [
            member.place(member.predict_normalized(inputs)) * member.scale(inputs)[..., None]
            for member in self.every_member
        ]
        return self.mean(parts) / self.scale(inputs)[..., None]

    def place(self, z: Float[Tensor, "batch horizon levels"]) -> Float[Tensor, "batch horizon levels"]:
        """Unchanged: each member has placed its own quantiles."""
        return z

    def scale(self, inputs: Inputs) -> Float[Tensor, "batch horizon"]:
        """The mean of the members' scales."""
        return self.mean([member.scale(inputs) for member in self.every_member])

    def mean(self, parts: Sequence[Tensor]) -> Tensor:
        """The mean over the members that are not left out; a choice among them in Python could not be exported."""
        stacked = torch.stack(list(parts))
        used = self.active.view(-1, *[1] * (stacked.dim() - 1))
        return torch.where(used, stacked, 0.0).sum(dim=0) / self.active.sum()

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The sum of the members' losses."""
        return torch.stack([member.loss(batch) for member in self.fitted_members]).sum()
