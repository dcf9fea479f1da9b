"""Hooks for schemathesis, which test_openapi.py runs: SCHEMATHESIS_HOOKS=tests.api.schemathesis_hooks."""

import schemathesis
from schemathesis.core.failures import Failure

from pregao.api.refusals import STATUS

RULES = {kind.__name__ for kind, status in STATUS.items() if status == 422}
"""Refusals by rules that no JSON Schema can state: closes of one scale, a range of dates, choices of one model."""


@schemathesis.hook
def before_call(context, case, kwargs):
    """Wait for no training."""
    if case.operation.label == "POST /train" and str((case.query or {}).get("wait", "true")).lower() == "true":
        case.query = {**(case.query or {}), "wait": "false"}


@schemathesis.hook
def filter_failure(context, failure: Failure, case, response) -> bool:
    """Whether this is a failure: a request that the schema allows must be accepted, or refused by a rule.

    DELETE cancels a job, whose state can be read afterwards.
    """
    if type(failure).__name__ == "UseAfterFree":
        return not case.operation.path.startswith("/train/{job}")
    if type(failure).__name__ != "RejectedPositiveData" or response.status_code != 422:
        return True
    return not {defect["type"] for defect in response.json()["detail"]} <= RULES
