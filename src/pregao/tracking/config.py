"""The settings of the commands on the registry."""

from pregao.config import Choices, Text


class ModelsConfig(Choices):
    """The choices of pregao models."""

    stock: Text


class RollbackConfig(Choices):
    """The choices of pregao rollback."""

    stock: Text
