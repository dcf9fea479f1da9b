"""The runs of an MLflow without readable tables: from its REST API, or from a process with its client."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from pregao import errors
from pregao.errors import PregaoError, TrackingUnavailable
from pregao.files import or_null
from pregao.settings import settings
from pregao.tracking.client import every_page, prepared_client
from pregao.tracking.database import experiment_row, run_row

Rows = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""Experiments and runs under the names of GET /statistics, in any order."""

KINDS = ("metrics", "params", "tags")

SECONDS = 60
"""Time limit of a request and of the process."""


def read(stock: str | None) -> Rows:
    """Return the active experiments and runs, of a stock or all.

    Raises:
        StorageError: MLflow's database cannot be written.
        TrackingUnavailable: MLflow does not answer.
    """
    uri = settings().tracking_uri
    try:
        if uri.startswith("http") and "@" not in uri:
            try:
                return _from_server(stock)
            except HTTPError as error:
                if error.code not in (401, 403):  # the client knows all kinds of keys and passwords
                    raise
        return _from_process(stock)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:  # ValueError: not JSON
        raise TrackingUnavailable(uri, str(error) or repr(error)) from error


def _from_server(stock: str | None) -> Rows:
    """See https://mlflow.org/docs/latest/api_reference/rest-api.html."""
    names = ("artifact_location", "experiment_id", "lifecycle_stage", "name")
    found = _pages("experiments", {} if stock is None else {"filter": f"name = '{stock}'"})
    experiments = [experiment_row(*(experiment[name] for name in names)) for experiment in found]
    ids = [experiment["experiment_id"] for experiment in experiments]
    runs = _pages("runs", {"experiment_ids": ids}) if ids else ()
    return experiments, [
        _row(run["info"], *({row["key"]: row["value"] for row in run["data"].get(kind, ())} for kind in KINDS))
        for run in runs
    ]


def _pages(kind: str, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    token = None
    while True:
        body = json.dumps(wanted | {"max_results": 1000} | ({"page_token": token} if token else {}))
        address = f"{settings().tracking_uri.rstrip('/')}/api/2.0/mlflow/{kind}/search"
        request = Request(address, body.encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=SECONDS) as answer:  # nosec B310 - the address is the user's own setting
            page = json.load(answer)
        yield from page.get(kind, ())
        token = page.get("next_page_token")
        if not token:
            return


def _from_process(stock: str | None) -> Rows:
    """Read in a separate process: MLflow's client would stay in this one's memory with 190 MB."""
    command = [sys.executable, "-m", "pregao.tracking.remote", *([stock] if stock else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    if "refusal" in answer:
        kind: type[PregaoError] = getattr(errors, answer["refusal"])
        raise kind.__new__(kind, answer["sentence"])
    return answer["experiments"], answer["runs"]


def with_client(stock: str | None) -> Rows:
    """Return what `read` returns, with MLflow's client in this process."""
    client = prepared_client()
    wanted = [found for found in every_page(client.search_experiments) if stock in (None, found.name)]
    experiments = [experiment_row(e.artifact_location, e.experiment_id, e.lifecycle_stage, e.name) for e in wanted]
    found = [run.to_dictionary() for e in wanted for run in every_page(client.search_runs, [e.experiment_id])]
    return experiments, [_row(run["info"], *(run["data"][kind] for kind in KINDS)) for run in found]


def _row(info: dict[str, Any], metrics: dict[str, Any], params: dict[str, str], tags: dict[str, str]) -> dict[str, Any]:
    names = ("run_id", "experiment_id", "artifact_uri", "status", "start_time", "end_time")
    finite = or_null({name: float(value) for name, value in metrics.items()})  # a server writes NaN as text
    return run_row(*(info.get(name) for name in names)) | {"metrics": finite, "params": params, "tags": tags}


def _main(stock: str | None = None) -> None:
    """Write the result or the error as the last line of the output."""
    try:
        experiments, runs = with_client(stock)
        answer: dict[str, Any] = {"experiments": experiments, "runs": runs}
    except PregaoError as error:
        answer = {"refusal": type(error).__name__, "sentence": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
