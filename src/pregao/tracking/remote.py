"""The runs of an MLflow without readable tables: from its REST API, or from a process with its client."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from pregao.errors import PregaoError, TrackingUnavailable, answer_of, raise_refusal
from pregao.files import or_null
from pregao.settings import settings
from pregao.tracking.client import every_page, prepared_client
from pregao.tracking.database import CHAMPION, experiment_row, run_row

Row = dict[str, Any]

Rows = tuple[list[Row], list[Row]]
"""Experiments and runs under the names of GET /statistics; the runs newest first."""

KINDS = ("metrics", "params", "tags")

NEWEST_FIRST = ["attributes.start_time DESC", "attributes.run_id ASC"]
"""The order of `database.runs`."""

LARGEST_PAGE = 1000

SECONDS = 20
"""Time limit of a request: shorter than the deadline of the API, which then answers with the reason."""

SECONDS_OF_A_PROCESS = 60


def read(
    stock: str | None, after: tuple[int, str] | None = None, limit: int | None = None, deleted: bool = False
) -> Rows:
    """Return the active experiments, and their runs newest first.

    The arguments are those of `database.runs` and `database.experiments`.

    Raises:
        StorageError: MLflow's database cannot be written.
        TrackingUnavailable: MLflow does not answer.
    """
    uri = settings().tracking_uri
    try:
        if uri.startswith("http") and "@" not in uri:
            try:
                return _from_server(stock, after, limit, deleted)
            except HTTPError as error:
                if error.code not in (401, 403):  # the client knows all kinds of keys and passwords
                    raise
        return _from_process(stock, after, limit, deleted)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:  # ValueError: not JSON
        raise TrackingUnavailable(uri, str(error) or repr(error)) from error


def _from_server(stock: str | None, after: tuple[int, str] | None, limit: int | None, deleted: bool) -> Rows:
    """See https://mlflow.org/docs/latest/api_reference/rest-api.html."""
    names = ("artifact_location", "experiment_id", "lifecycle_stage", "name")
    view = "ALL" if deleted else "ACTIVE_ONLY"
    found = _pages("experiments", {"filter": _named(stock), "max_results": LARGEST_PAGE, "view_type": view})
    experiments = [experiment_row(*(experiment[name] for name in names)) for experiment in found]
    wanted = {"experiment_ids": [experiment["experiment_id"] for experiment in experiments], "order_by": NEWEST_FIRST}
    runs = _pages("runs", wanted | {"filter": _until(after), "max_results": _page_size(limit)}) if experiments else ()
    rows = (
        _row(run["info"], *({row["key"]: row["value"] for row in run["data"].get(kind, ())} for kind in KINDS))
        for run in runs
    )
    return experiments, _selected(rows, after, limit)


def champions() -> dict[str, int]:
    """Return the version of each champion, by ticker, from the REST API.

    Raises:
        TrackingUnavailable: MLflow does not answer.
    """
    try:
        models = list(_registered_models())
    except (OSError, ValueError) as error:
        raise TrackingUnavailable(settings().tracking_uri, str(error) or repr(error)) from error
    aliases = ((model["name"], alias) for model in models for alias in model.get("aliases", ()))
    return {name: int(alias["version"]) for name, alias in aliases if alias["alias"] == CHAMPION}


def _registered_models() -> Iterator[dict[str, Any]]:
    address, token = f"{settings().tracking_uri.rstrip('/')}/api/2.0/mlflow/registered-models/search", ""
    while True:
        query = urlencode({"max_results": LARGEST_PAGE, "page_token": token})
        with urlopen(f"{address}?{query}", timeout=SECONDS) as answer:  # nosec B310 - the user's own setting
            page = json.load(answer)
        yield from page.get("registered_models", ())
        token = page.get("next_page_token")
        if not token:
            return


def _pages(kind: str, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The results of a search; a further page is requested when its first result is needed."""
    address = f"{settings().tracking_uri.rstrip('/')}/api/2.0/mlflow/{kind}/search"
    token = None
    while True:
        body = json.dumps(wanted | ({"page_token": token} if token else {}))
        request = Request(address, body.encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=SECONDS) as answer:  # nosec B310 - the address is the user's own setting
            page = json.load(answer)
        yield from page.get(kind, ())
        token = page.get("next_page_token")
        if not token:
            return


def _from_process(*wanted: object) -> Rows:
    """Read in a separate process: MLflow's client would stay in this one's memory with 190 MB."""
    command = [sys.executable, "-m", "pregao.tracking.remote", json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_OF_A_PROCESS, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    raise_refusal(answer)
    return answer["experiments"], answer["runs"]


def with_client(
    stock: str | None, after: tuple[int, str] | None = None, limit: int | None = None, deleted: bool = False
) -> Rows:
    """Return what `read` returns, with MLflow's client in this process."""
    from mlflow.entities import ViewType

    client = prepared_client()
    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    wanted = list(every_page(client.search_experiments, filter_string=_named(stock), view_type=view))
    experiments = [experiment_row(e.artifact_location, e.experiment_id, e.lifecycle_stage, e.name) for e in wanted]
    query = {"filter_string": _until(after), "max_results": _page_size(limit), "order_by": NEWEST_FIRST}
    runs = every_page(client.search_runs, [e.experiment_id for e in wanted], **query) if wanted else ()
    found = (run.to_dictionary() for run in runs)
    return experiments, _selected(
        (_row(run["info"], *(run["data"][kind] for kind in KINDS)) for run in found), after, limit
    )


def _named(stock: str | None) -> str:
    return "" if stock is None else f"name = '{stock}'"


def _until(after: tuple[int, str] | None) -> str:
    return "" if after is None else f"attributes.start_time <= {after[0]}"


def _page_size(limit: int | None) -> int:
    return LARGEST_PAGE if limit is None else min(limit + 1, LARGEST_PAGE)  # + 1: the run that `after` names


def _selected(rows: Iterator[Row], after: tuple[int, str] | None, limit: int | None) -> list[Row]:
    """The first `limit` rows after a run; other runs may have started in the same millisecond."""
    if after is not None:
        rows = (row for row in rows if (-(row["start_time"] or 0), row["run_id"]) > (-after[0], after[1]))
    return list(islice(rows, limit))


def _row(info: dict[str, Any], metrics: dict[str, Any], params: dict[str, str], tags: dict[str, str]) -> dict[str, Any]:
    names = ("run_id", "experiment_id", "artifact_uri", "status", "start_time", "end_time")
    finite = or_null({name: float(value) for name, value in metrics.items()})  # a server writes NaN as text
    return run_row(*(info.get(name) for name in names)) | {"metrics": finite, "params": params, "tags": tags}


def _main(wanted: str) -> None:
    """Write the result or the error as the last line of the output."""
    try:
        experiments, runs = with_client(*json.loads(wanted))
        answer: dict[str, Any] = {"experiments": experiments, "runs": runs}
    except PregaoError as error:
        answer = answer_of(error)
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    _main(sys.argv[1])
