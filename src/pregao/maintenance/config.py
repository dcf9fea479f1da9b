"""The settings of pregao doctor."""

from pregao.config import Choices, PositiveInt


class DoctorConfig(Choices):
    """The choices of pregao doctor."""

    prune: bool
    fix: bool
    keep: PositiveInt
