"""The app of the HTTP process: our routes, refusals and middleware on LitServe's application."""

import os
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from pregao.api import refusals
from pregao.api.collectors import ServedStocks, ServerProcesses
from pregao.api.config import ServeConfig
from pregao.api.forecast_log_service import ForecastLogService
from pregao.api.forecasts import Forecasts
from pregao.api.inference import Ask, Inference
from pregao.api.middleware import RequestMiddleware
from pregao.api.monitoring import Monitoring
from pregao.api.routes import SECONDS_BETWEEN_TRIES, open_routes, routes
from pregao.api.service import Service
from pregao.api.trainings import Trainings
from pregao.errors import NoModel, PregaoError, TrainingRuns
from pregao.settings import settings

MAX_DEFECTS = 20
DOCUMENTATION = ("/docs", "/docs/oauth2-redirect", "/openapi.json")

ABOUT = """Forecasts the next 10 daily closes of B3 stocks, with bands, and trains new models on request.

Field names and the success message are those of existing clients. Errors are one sentence in `detail`."""


def configure_app(app: FastAPI, ask: Ask, config: ServeConfig) -> None:
    """Replace LitServe's routes with ours.

    Args:
        app: LitServe's application.
        ask: sends windows to the inference processes.
        config: the server's.

    Raises:
        InvalidChoice: a source that is not allowed.
    """
    monitoring = Monitoring()
    app.title, app.version, app.description = "Pregão", version("pregao"), ABOUT
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") in DOCUMENTATION]
    app.include_router(open_routes)
    app.include_router(routes)
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    log = ForecastLogService(config.poll, monitoring)
    forecasts = Forecasts(config, Inference(ask, config.workers, config.deadline), monitoring, log)
    monitoring.registry.register(ServedStocks(forecasts))
    monitoring.registry.register(ServerProcesses(os.getpid()))  # the HTTP process is forked from this one
    app.state.service = Service(config, forecasts, Trainings(config.source, monitoring), monitoring, log)
    app.user_middleware.clear()  # LitServe's gzip at its highest level takes longer than everything else together
    app.add_middleware(
        RequestMiddleware,
        api_key=settings().api_key,
        max_body=config.max_body,
        deadline=config.deadline,
        monitoring=monitoring,
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, PregaoError)
    kind = type(error)
    status, body = refusals.status(kind), refusals.body(kind, str(error))
    headers = {"Retry-After": SECONDS_BETWEEN_TRIES} if status in (409, 503) else {}
    if isinstance(error, TrainingRuns):
        body["job"] = error.job
    if isinstance(error, NoModel):
        body["detail"] = _with_http_call(body["detail"])
    return JSONResponse(body, status, headers)


def _with_http_call(sentence: str) -> str:
    """The sentence with the HTTP call that trains a model, instead of the command."""
    reason, _, command = sentence.partition(" Train one: ")
    stock = command.rpartition("=")[2]
    call = f'POST /train {{"stock": "{stock}", "inicio": "2020-01-01", "fim": "2025-07-28"}}'
    return f"{reason.rstrip('.')}. Train one: {call}"


async def _invalid(request: Request, error: Exception) -> Response:
    """FastAPI's list without the input, which may be long or hold NaN, for which JSON has no value."""
    assert isinstance(error, RequestValidationError)
    defects = [{"type": e["type"], "loc": list(e["loc"]), "msg": e["msg"]} for e in error.errors()[:MAX_DEFECTS]]
    return JSONResponse({"detail": defects}, 422)


async def _broken(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": "An internal error; see the server's log."}, 500)


HANDLERS: dict[type[Exception], Any] = {
    PregaoError: _refused,
    RequestValidationError: _invalid,
    Exception: _broken,
}
