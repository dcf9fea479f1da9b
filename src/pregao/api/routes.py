"""The routes of the contract."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request, Response, Security
from fastapi import Path as PathParameter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from fastapi.sse import EventSourceResponse, ServerSentEvent

from pregao.api import refusals
from pregao.api.admin import AdminKey, require_admin_key
from pregao.api.schemas import (
    CLOSES,
    LONGEST_TEXT,
    TICKER,
    Accuracy,
    Busy,
    Detail,
    Health,
    JobAnswer,
    JobList,
    JobStarted,
    Live,
    ModelList,
    PredictAnswer,
    PredictRequest,
    RolledBack,
    Statistics,
    TrainAnswer,
    TrainRequest,
)
from pregao.api.service import Service
from pregao.api.trainings import STOPPED, as_json, outcome
from pregao.errors import sentence_for_clients
from pregao.models.portable import zipped
from pregao.prices.symbols import Symbol
from pregao.tracking.run_table import Page
from pregao.training.job import Job

SECONDS_BETWEEN_TRIES = "30"
"""The Retry-After of a refusal."""

PREDICT_EXAMPLES: dict[str, Any] = {
    "a stock": {"value": {"stock": "VALE3"}},
    "given closes": {"value": {"historical_data": CLOSES}},
    "given closes of a stock": {"value": {"stock": "VALE3", "historical_data": CLOSES}},
}
StockPath = Annotated[
    str, PathParameter(max_length=LONGEST_TEXT, examples=["VALE3"], json_schema_extra={"pattern": TICKER})
]
ZIP = {"type": "string", "format": "binary"}
StockQuery = Annotated[
    str | None, Query(max_length=LONGEST_TEXT, examples=["VALE3"], json_schema_extra={"pattern": TICKER})
]
PAGE_TOKEN = "^[0-9]{1,18}-[0-9a-f]{32}$"  # nosec B105 - a pattern

TRAIN_EXAMPLES: dict[str, Any] = {
    "a stock": {"value": {"stock": "VALE3", "inicio": "2020-01-01", "fim": "2025-07-28"}},
    "with choices": {
        "value": {
            "stock": "VALE3",
            "inicio": "2020-01-01",
            "fim": "2025-07-28",
            "overrides": {"model.hidden_size": 40, "trainer.max_epochs": 20, "seed": 6544},
        }
    },
}


async def get_service(request: Request) -> Service:
    """The state of the running server."""
    found: Service = request.app.state.service
    return found


CurrentService = Annotated[Service, Depends(get_service)]


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented refusals of a route and of the middleware."""
    return {status: {"model": Busy if status == 409 else Detail} for status in (400, 413, 504, *statuses)}


def refused_as_json(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The same where FastAPI would document the content type of the route's other answers."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Detail"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


KEY = Security(APIKeyHeader(name="X-API-Key", auto_error=False))
KEY_REFUSED = refused_as_json(401, 429)
"""The documentation of a server with a key."""

routes = APIRouter(generate_unique_id_function=lambda route: route.name)
open_routes = APIRouter(generate_unique_id_function=lambda route: route.name)


def _symbol(request: Request, text: str) -> Symbol:
    """The stock of a request; its line in the log names it."""
    symbol = Symbol.parse(text)
    request.state.stock = symbol.ticker
    return symbol


@routes.post("/predict", response_model=PredictAnswer, responses=refused(404, 503), tags=["forecasts"])
async def predict(
    request: Request,
    service: CurrentService,
    body: Annotated[PredictRequest | None, Body(openapi_examples=PREDICT_EXAMPLES)] = None,
) -> Response:
    """Forecast the next 10 closes of a stock, or those after given closes; without a stock, of the configured one."""
    body = body or PredictRequest()
    symbol = _symbol(request, service.config.stock if body.stock is None else body.stock)
    if body.historical_data is not None:
        named = body.stock is not None
        return _json(await service.forecasts.of_closes(symbol, body.historical_data, named, body.version))
    return _json(await service.forecasts.of_stock(symbol, body.version))


@routes.post(
    "/train",
    response_model=TrainAnswer,
    responses=refused(403, 404, 409, 500, 503) | {202: {"model": JobStarted}},
    tags=["trainings"],
)
async def train(
    request: Request,
    body: Annotated[TrainRequest, Body(openapi_examples=TRAIN_EXAMPLES)],
    service: CurrentService,
    wait: Annotated[bool, Query(description="false: answer immediately, with the address of the job")] = True,
    admin_key: AdminKey = None,
) -> Response:
    """Train a model for a stock, and serve it unless it fails the rules of promotion."""
    _symbol(request, body.stock)
    if body.overrides.chosen().get("promote") == "always":
        require_admin_key(admin_key, "promote=always", "promote=auto and promote=never")
    job = await service.trainings.start(body)
    if wait:
        return _ended(await service.trainings.ended(job.id))
    where = f"/train/{job.id}"
    started = {"job": job.id, "status_url": where, "events_url": f"{where}/events"}
    return JSONResponse(started, 202, headers={"Location": where})


@routes.get("/train", response_model=JobList, responses=refused(), tags=["trainings"])
def jobs(service: CurrentService) -> Response:
    """The trainings of this machine, newest first."""
    return JSONResponse({"jobs": [as_json(job) for job in service.trainings.jobs.all()]})


@routes.get("/train/{job}", response_model=JobAnswer, responses=refused(404), tags=["trainings"])
def status(job: str, service: CurrentService) -> Response:
    """The state of a training."""
    return JSONResponse(as_json(service.trainings.jobs.read(job)))


async def _known(job: str, service: CurrentService) -> str:
    """The id of a job; an unknown one is refused before a stream starts."""
    return service.trainings.jobs.read(job).id


@routes.get(
    "/train/{job}/events",
    response_class=EventSourceResponse,
    responses=refused_as_json(400, 404, 413, 504),
    tags=["trainings"],
)
async def events(job: Annotated[str, Depends(_known)], service: CurrentService) -> AsyncIterator[ServerSentEvent]:
    """The state of a training as Server-Sent Events, until it has ended."""
    async for state in service.trainings.states(job):
        yield ServerSentEvent(event=state.state, data=as_json(state))


@routes.delete("/train/{job}", response_model=JobAnswer, responses=refused(404), tags=["trainings"])
async def cancel(job: str, service: CurrentService) -> Response:
    """Stop a training; the served model stays, and a training that has ended is not changed."""
    return JSONResponse(as_json(await service.trainings.cancel(job)))


@routes.get("/statistics", name="statistics", response_model=Statistics, responses=refused(503), tags=["models"])
async def all_experiments(
    service: CurrentService,
    stock: StockQuery = None,
    limit: Annotated[int | None, Query(ge=1, le=10_000, description="Runs on a page")] = None,
    page_token: Annotated[
        str | None, Query(description="next_page_token of the previous page", json_schema_extra={"pattern": PAGE_TOKEN})
    ] = None,
    deleted: Annotated[bool, Query(alias="all", description="true: deleted experiments too")] = False,
) -> Response:
    """Every experiment in MLflow, with its runs."""
    page = Page(None if stock is None else Symbol.parse(stock), limit, page_token, deleted)
    return _json(await service.statistics(page))


@routes.get("/accuracy", response_model=Accuracy, responses=refused(503), tags=["forecasts"])
async def accuracy(service: CurrentService, stock: StockQuery = None) -> Response:
    """Scores of past forecasts by stock, compared with last close."""
    return _json(await service.log.accuracy(None if stock is None else Symbol.parse(stock).ticker))


@routes.get("/models", response_model=ModelList, responses=refused(), tags=["models"])
async def models(service: CurrentService) -> Response:
    """The served models."""
    entries = [
        {
            "stock": served.stock,
            "version": served.version,
            "run_id": served.run_id,
            "trained_at": served.model.card.trained_at,
            "metrics": served.model.card.metrics,
        }
        for _, served in sorted(service.forecasts.registry.served.items())
    ]
    return JSONResponse({"models": entries})


@routes.post(
    "/models/{stock}/rollback", response_model=RolledBack, responses=refused(403, 404, 409, 503), tags=["models"]
)
async def rollback(request: Request, stock: StockPath, service: CurrentService, admin_key: AdminKey = None) -> Response:
    """Serve the version that was served before; repeat it to go one version further back."""
    require_admin_key(admin_key, "A rollback", "POST /predict with a version")
    symbol = _symbol(request, stock)
    return JSONResponse({"stock": symbol.ticker, "version": await service.forecasts.registry.rollback(symbol)})


@routes.get(
    "/models/{stock}/export",
    response_class=Response,
    responses=refused_as_json(404, 503) | {200: {"content": {"application/zip": {"schema": ZIP}}}},
    tags=["models"],
)
async def export(request: Request, stock: StockPath, service: CurrentService) -> Response:
    """The served model for other programs: ONNX, card and README as a zip."""
    found = await service.forecasts.registry.model(_symbol(request, stock))
    name = f"{found.stock}-{found.version}"
    content = await asyncio.to_thread(zipped, found.folder, name)
    disposition = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return Response(content, media_type="application/zip", headers=disposition)


@routes.get("/info", responses=refused(), tags=["server"])
async def info(service: CurrentService) -> dict[str, Any]:
    """Versions and settings of the server."""
    config = service.config
    about = {name: version(name) for name in ("pregao", "litserve", "onnxruntime", "mlflow")}
    return {"versions": about, **config.model_dump(include={"stock", "workers", "deadline", "max_body"})}


@routes.get(
    "/metrics",
    responses=refused() | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    response_class=Response,
    tags=["server"],
)
def metrics(service: CurrentService) -> Response:
    """Prometheus' metrics, collected in a thread since it takes milliseconds."""
    return Response(service.monitoring.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@open_routes.get("/docs", include_in_schema=False)
async def documentation(request: Request) -> Response:
    """Swagger UI, whose files this server has: it works without internet."""
    return get_swagger_ui_html(
        openapi_url=request.app.openapi_url,
        title=request.app.title,
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/favicon.png",
    )


@open_routes.get("/health/live", response_model=Live, responses=refused(), tags=["server"])
async def live() -> Response:
    """200 while the server answers; a server that does not should be restarted."""
    return JSONResponse({"status": "ok"})


@open_routes.get(
    "/health/ready",
    name="ready",
    response_model=Health,
    responses=refused() | {503: {"model": Health}},
    tags=["server"],
)
@open_routes.get("/health", response_model=Health, responses=refused() | {503: {"model": Health}}, tags=["server"])
async def health(service: CurrentService) -> Response:
    """200 once a model returns forecasts; other faults are listed as problems."""
    registry = service.forecasts.registry
    well = service.forecasts.ready and bool(registry.served)
    body = {
        "status": "ok" if well else "not ready",
        "stocks": sorted(registry.served),
        "problems": list(registry.problems.values()),
    }
    return JSONResponse(body, 200 if well else 503)


def _ended(job: Job) -> Response:
    """The response to a client that waited for a training."""
    if job.result is not None:
        return JSONResponse(outcome(job.result))
    sentence = job.error or "The training ended without a result."
    if job.refusal is not None:
        kind = refusals.kind(job.refusal)
        return JSONResponse(refusals.body(kind, sentence), refusals.status(kind))
    if job.state == "cancelled":
        status = 503 if sentence == STOPPED else 409
        return JSONResponse(refusals.plain(f"The training was cancelled. {sentence}") | {"job": job.id}, status)
    return JSONResponse(refusals.plain(sentence_for_clients(sentence)), 500)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
