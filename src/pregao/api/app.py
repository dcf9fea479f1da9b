"""The app of the HTTP process: our routes, refusals and gate on LitServe's, and what runs beside them."""

import json
import os
from collections.abc import Awaitable
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from pregao.api import refusals
from pregao.api.collectors import ServedStocks, ServerProcesses
from pregao.api.forecast_log_service import Memory
from pregao.api.forecasts import Forecasts
from pregao.api.inference import Ask, Inference
from pregao.api.middleware import Gate
from pregao.api.monitoring import Monitoring
from pregao.api.routes import SECONDS_BETWEEN_TRIES, open_routes, routes
from pregao.api.schemas import PredictRequest
from pregao.api.service import Service
from pregao.api.trainings import Trainings
from pregao.config import ServeConfig
from pregao.errors import InvalidSymbol, NoModel, PregaoError, TrainingRuns
from pregao.prices.downloader import Downloader
from pregao.prices.symbols import Symbol
from pregao.settings import settings

LONGEST_SHORT_BODY = 100
MOST_DEFECTS = 20
DOCUMENTATION = ("/docs", "/docs/oauth2-redirect", "/openapi.json")

ABOUT = """Forecasts the next 10 daily closes of B3 stocks, with bands, and trains anew on request.

Field names and the success message are those that existing clients know. Errors are one sentence in `detail`."""


def configure_app(app: FastAPI, ask: Ask, config: ServeConfig) -> None:
    """Replace LitServe's routes with ours.

    Args:
        app: LitServe's application.
        ask: sends windows to the inference processes.
        config: of the server.

    Raises:
        InvalidChoice: a source that is not allowed.
    """
    Downloader(config.source.name, config.source.path)
    monitoring = Monitoring()
    app.title, app.version, app.description = "Pregão", version("pregao"), ABOUT
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") in DOCUMENTATION]
    app.include_router(open_routes)
    app.include_router(routes)
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    memory = Memory(config.poll, monitoring)
    forecasts = Forecasts(config, Inference(ask, config.workers, config.deadline), monitoring, memory)
    monitoring.registry.register(ServedStocks(forecasts))
    monitoring.registry.register(ServerProcesses(os.getpid()))  # the HTTP process is forked from this one
    app.state.service = Service(config, forecasts, Trainings(config.source, monitoring), monitoring, memory)
    app.user_middleware.clear()  # LitServe's gzip at its highest level takes longer than all else together
    app.add_middleware(
        Gate,
        api_key=settings().api_key,
        max_body=config.max_body,
        deadline=config.deadline,
        monitoring=monitoring,
        short_way=partial(short_way, forecasts, config.stock),
    )


def short_way(forecasts: Forecasts, default: str, body: bytes) -> Awaitable[bytes | None] | bytes | None:
    """A remembered forecast, or that of given closes; None for whatever FastAPI has to refuse or to compute."""
    if len(body) <= LONGEST_SHORT_BODY:
        try:
            asked = json.loads(body)
            if type(asked) is dict and asked.keys() == {"stock"}:
                return forecasts.remembered(Symbol.parse(asked["stock"]).ticker)
        except (ValueError, RecursionError, InvalidSymbol):
            return None
    return _of_closes(forecasts, default, body)


async def _of_closes(forecasts: Forecasts, default: str, body: bytes) -> bytes | None:
    try:
        asked = PredictRequest.model_validate_json(body)
        if asked.historical_data is None:
            return None
        return await forecasts.of_closes(Symbol.parse(asked.stock or default), asked.historical_data)
    except (ValidationError, PregaoError):
        return None


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, PregaoError)
    kind = type(error)
    status, body = refusals.status(kind), refusals.body(kind, str(error))
    headers = {"Retry-After": SECONDS_BETWEEN_TRIES} if status in (409, 503) else {}
    if isinstance(error, TrainingRuns):
        body["job"] = error.job
    if isinstance(error, NoModel):
        body["detail"] = _with_the_call(body["detail"])
    return JSONResponse(body, status, headers)


def _with_the_call(sentence: str) -> str:
    """The way to a model that a client of HTTP has, in place of the command."""
    told, _, command = sentence.partition(" Train one: ")
    stock = command.rpartition("=")[2]
    call = f'POST /train {{"stock": "{stock}", "inicio": "2020-01-01", "fim": "2025-07-28"}}'
    return f"{told.rstrip('.')}. Train one: {call}"


async def _invalid(request: Request, error: Exception) -> Response:
    """FastAPI's list, without the input: that may be long, and NaN in it has no JSON."""
    assert isinstance(error, RequestValidationError)
    told = [{"type": e["type"], "loc": list(e["loc"]), "msg": e["msg"]} for e in error.errors()[:MOST_DEFECTS]]
    return JSONResponse({"detail": told}, 422)


async def _broken(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": "An internal error; the server's log tells more."}, 500)


HANDLERS: dict[type[Exception], Any] = {
    PregaoError: _refused,
    RequestValidationError: _invalid,
    Exception: _broken,
}
