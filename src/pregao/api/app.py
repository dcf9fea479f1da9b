"""The app of the HTTP process: our routes, refusals and middleware on LitServe's application."""

import os
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from pregao.api import refusals
from pregao.api.access import LOCAL_HOSTS, Access
from pregao.api.collectors import ServedStocks, ServerProcesses
from pregao.api.config import ServeConfig
from pregao.api.forecast_log_service import ForecastLogService
from pregao.api.forecasts import Forecasts
from pregao.api.middleware import RequestMiddleware
from pregao.api.monitoring import Monitoring
from pregao.api.remote_model import Infer
from pregao.api.routes import KEY, KEY_REFUSED, SECONDS_BETWEEN_TRIES, open_routes, routes
from pregao.api.service import Service
from pregao.api.trainings import Trainings
from pregao.errors import NoModel, PregaoError, TrainingRuns
from pregao.settings import settings

MAX_DEFECTS = 20

ABOUT = """Forecasts the next 10 daily closes of B3 stocks, with bands, and trains new models on request.

Field names and the success message are those of existing clients. Errors are one sentence in `detail` and in
`error`; for 422 `detail` is a list. Every answer has the header `X-Request-ID`: that of the request, or a new one."""


def configure_app(app: FastAPI, infer: Infer, config: ServeConfig) -> None:
    """Replace LitServe's routes with ours.

    Args:
        app: LitServe's application.
        infer: calls the inference processes.
        config: the server's.

    Raises:
        InvalidChoice: a source that is not allowed.
    """
    monitoring, key = Monitoring(), settings().api_key
    app.title, app.version, app.description = "Pregão", version("pregao"), ABOUT
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") == app.openapi_url]
    app.router.redirect_slashes = False  # a redirect would go to any host that the client names
    app.include_router(open_routes)
    app.include_router(routes, dependencies=[KEY] if key else [], responses=KEY_REFUSED if key else {})
    app.mount("/docs", StaticFiles(packages=[("fastapi_offline", "static")]))
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    log = ForecastLogService(config.poll, monitoring)
    forecasts = Forecasts(config, infer, monitoring, log)
    monitoring.registry.register(ServedStocks(forecasts))
    monitoring.registry.register(ServerProcesses(os.getpid()))  # the HTTP process is forked from this one
    app.state.service = Service(config, forecasts, Trainings(config, monitoring), monitoring, log)
    app.user_middleware.clear()  # LitServe's gzip at its highest level takes longer than everything else together
    app.add_middleware(
        RequestMiddleware,
        access=Access(
            key, None if key or config.insecure else {*LOCAL_HOSTS, *config.allowed_hosts}, config.wrong_keys
        ),
        max_body=config.max_body,
        deadline=config.deadline,
        monitoring=monitoring,
        log=config.request_log,
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, PregaoError)
    kind = type(error)
    status, body = refusals.status(kind), refusals.body(kind, str(error), in_query=request.method == "GET")
    headers = {"Retry-After": SECONDS_BETWEEN_TRIES} if status in (409, 503) else {}
    if isinstance(error, TrainingRuns):
        body["job"] = error.job
    if isinstance(error, NoModel):
        body = refusals.plain(_with_http_call(body["detail"]))
    return JSONResponse(body, status, headers)


def _with_http_call(sentence: str) -> str:
    """The sentence with the HTTP call that trains a model, instead of the command."""
    reason, _, command = sentence.partition(" Train one: ")
    stock = command.rpartition("=")[2]
    call = f'POST /train {{"stock": "{stock}", "inicio": "2020-01-01", "fim": "2025-07-28"}}'
    return f"{reason.rstrip('.')}. Train one: {call}"


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return JSONResponse(refusals.invalid(error.errors()[:MAX_DEFECTS]), 422)


async def _not_found(request: Request, error: Exception) -> Response:
    """An unknown path, a method that a path does not have, or a body that cannot be parsed."""
    assert isinstance(error, StarletteHTTPException)
    headers = {} if error.status_code != 405 else {"Allow": ", ".join(sorted(_methods(request.url.path)))}
    return JSONResponse(refusals.plain(error.detail), error.status_code, headers)


def _methods(path: str) -> set[str]:
    """The methods of all routes of a path; Starlette's own answer names those of the first one."""
    found: set[str] = set()
    for route in (*open_routes.routes, *routes.routes):
        if isinstance(route, APIRoute) and route.path_regex.match(path):
            found |= route.methods or set()
    return found | {"HEAD"} if "GET" in found else found


HANDLERS: dict[type[Exception], Any] = {
    PregaoError: _refused,
    RequestValidationError: _invalid,
    StarletteHTTPException: _not_found,
}
