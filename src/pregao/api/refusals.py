"""The HTTP status and the JSON of each refusal: one sentence without paths of the host."""

from collections.abc import Mapping, Sequence
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
    errors.NotExported: 422,
    errors.TrainingTooLarge: 422,
    errors.LimitReached: 422,
    errors.JobsFailed: 422,
    errors.PricesUnavailable: 503,
    errors.BadPrices: 503,
    errors.BadQuotesFile: 503,
    errors.CorruptModel: 503,
    errors.NotServed: 503,
    errors.NotReady: 503,
    errors.ForecastFailed: 503,
    errors.StorageError: 503,
    errors.TrackingUnavailable: 503,
    errors.ForecastsUnavailable: 503,
    errors.RayUnavailable: 503,
    errors.StudyUnavailable: 503,
}

FIELD: dict[type[PregaoError], str] = {
    errors.InvalidSymbol: "stock",
    errors.OddLot: "stock",
    errors.NotAStock: "stock",
    errors.InvalidDates: "inicio",
    errors.InvalidChoice: "overrides",
    errors.TrainingTooLarge: "overrides",
    errors.LimitReached: "overrides",
    errors.InvalidCloses: "historical_data",
}
"""The field of the body that a 422 is about."""

QUERY_FIELD = FIELD | {errors.InvalidChoice: "page_token"}
"""The parameter of the query that a 422 is about."""


def status(kind: type[PregaoError]) -> int:
    """The status of a class, or of its nearest ancestor in the table."""
    return next(STATUS[base] for base in kind.__mro__ if base in STATUS)


def kind(name: str) -> type[PregaoError]:
    """The class of this name, which a training's record holds."""
    return next(known for known in STATUS if known.__name__ == name)


def body(kind: type[PregaoError], sentence: str, in_query: bool = False) -> dict[str, Any]:
    """The response's JSON: one sentence, or for 422 FastAPI's list with one entry."""
    sentence = sentence_for_clients(sentence)
    if status(kind) != 422:
        return plain(sentence)
    field = (QUERY_FIELD if in_query else FIELD).get(kind)
    place = ["query" if in_query else "body", *([] if field is None else [field])]
    return {"detail": [{"type": kind.__name__, "loc": place, "msg": sentence}], "error": sentence}


def plain(sentence: str) -> dict[str, Any]:
    """A sentence as JSON; old clients read `error`."""
    return {"detail": sentence, "error": sentence}


def invalid(defects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """FastAPI's list without the inputs, which may be long or hold NaN, for which JSON has no value."""
    shown = [{"type": defect["type"], "loc": list(defect["loc"]), "msg": defect["msg"]} for defect in defects]
    first = shown[0]
    return {"detail": shown, "error": f"{'.'.join(map(str, first['loc'][1:])) or first['loc'][0]}: {first['msg']}"}
