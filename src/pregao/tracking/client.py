"""MLflow's client for this installation's store. Its import takes a second, so each function imports it late."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from pregao.errors import TrackingUnavailable, refusal
from pregao.files import ALEMBIC, locked
from pregao.settings import TRACKING_URI, settings
from pregao.tracking.paths import follow_home

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow reads these at import; its defaults report usage to its makers, and print progress on the terminal.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# With its default, a server that is down is an error after four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("urllib3").setLevel(logging.ERROR)  # one line per retry; the failure is one sentence
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs the trace of what it raises

MODEL = "model"
"""Name of the folder with a TrainedModel, among the files of a run and of a registered version."""


def mlflow_client() -> "MlflowClient":
    """Return a client of the configured store, without a query."""
    import mlflow

    uri, given = settings().tracking_uri, os.environ.get(TRACKING_URI)
    mlflow.set_tracking_uri(uri)
    # MLflow exports the address, and settings() would then take it for the user's choice.
    if given is None:
        os.environ.pop(TRACKING_URI, None)
    return mlflow.MlflowClient(uri)


def prepared_client() -> "MlflowClient":
    """Return a client after a first query, which creates a missing database under a lock, for this path of the home.

    Raises:
        StorageError: the database cannot be written.
        TrackingUnavailable: no server answers, or the file is not a database.
    """
    try:
        # A server creates its tables itself, and with a lock the others would wait for one that is down.
        with store_lock(), nullcontext() if settings().tracking_uri.startswith("http") else ALEMBIC:
            client = mlflow_client()
            client.search_experiments(max_results=1)
            follow_home()
    except Exception as error:  # MLflow, SQLAlchemy and the database's driver each have their own
        raise refusal(error) or TrackingUnavailable(settings().tracking_uri, repr(error)[:200]) from error
    return client


def store_lock(name: str = ".lock") -> AbstractContextManager[None]:
    """Hold a lock between processes where the database is a file."""
    return locked(settings().mlruns / name) if settings().tracking_uri.startswith("sqlite:") else nullcontext()


def every_page(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:  # noqa: ANN401 - MLflow has no types
    """Yield all results of a paged search; a further page is requested when its first result is needed."""
    page = search(*arguments, **options)
    yield from page
    while page.token:
        page = search(*arguments, **options, page_token=page.token)
        yield from page


def preload() -> None:
    """Import what MLflow imports at the first query of a database; a server does so while it waits."""
    if "://" in settings().tracking_uri and not settings().tracking_uri.startswith("http"):
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
