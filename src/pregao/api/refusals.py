"""The HTTP status and the JSON of each refusal: one sentence without paths of the host."""

from typing import Any

from pregao import errors
from pregao.errors import PregaoError, sentence_for_clients

STATUS: dict[type[PregaoError], int] = {
    errors.AdminKeyNeeded: 403,
    errors.UnknownStock: 404,
    errors.NoModel: 404,
    errors.NoSuchJob: 404,
    errors.NoSuchVersion: 404,
    errors.MissingArtifact: 404,
    errors.TrainingRuns: 409,
    errors.NoEarlierVersion: 409,
    errors.InvalidSymbol: 422,
    errors.OddLot: 422,
    errors.NotAStock: 422,
    errors.InvalidDates: 422,
    errors.InvalidChoice: 422,
    errors.InvalidCloses: 422,
    errors.TooFewSessions: 422,
    errors.IncomparableLosses: 422,
    errors.NotNeeded: 409,
    errors.NothingInRange: 422,
    errors.BadCheckpoint: 422,
    errors.Diverged: 422,
    errors.JobsFailed: 422,
    errors.PricesUnavailable: 503,
    errors.BadPrices: 503,
    errors.BadQuotesFile: 503,
    errors.CorruptModel: 503,
    errors.StorageError: 503,
    errors.TrackingUnavailable: 503,
    errors.ForecastsUnavailable: 503,
    errors.RayUnavailable: 503,
    errors.StudyUnavailable: 503,
}

FIELD: dict[type[PregaoError], list[str]] = {
    errors.InvalidSymbol: ["body", "stock"],
    errors.OddLot: ["body", "stock"],
    errors.NotAStock: ["body", "stock"],
    errors.InvalidDates: ["body", "inicio"],
    errors.InvalidChoice: ["body", "overrides"],
    errors.InvalidCloses: ["body", "historical_data"],
}
"""The field of the request that a 422 is about."""


def status(kind: type[PregaoError]) -> int:
    """The status of a class, or of its nearest ancestor in the table."""
    return next(STATUS[base] for base in kind.__mro__ if base in STATUS)


def kind(name: str) -> type[PregaoError]:
    """The class of this name, which a training's record holds."""
    return next(known for known in STATUS if known.__name__ == name)


def body(kind: type[PregaoError], sentence: str) -> dict[str, Any]:
    """The response's JSON: one sentence, or for 422 FastAPI's list with one entry."""
    detail = sentence_for_clients(sentence)
    if status(kind) != 422:
        return {"detail": detail}
    return {"detail": [{"type": kind.__name__, "loc": FIELD.get(kind, ["body"]), "msg": detail}]}
