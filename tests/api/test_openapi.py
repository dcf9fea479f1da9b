import os
import subprocess
import sys

import pytest

from pregao.settings import REPOSITORY

SEED = 6544
CASES = os.environ.get("PREGAO_SCHEMATHESIS_CASES", "25")
"""Per route; by hand 1000."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("key", [None, "a_key"])
def test_schemathesis_finds_no_fault_with_all_checks(start, tmp_path, key):
    """What the document allows is accepted, what it does not allow is refused, and every answer is documented."""
    variables = {} if key is None else {"PREGAO_API_KEY": key}
    server = start("wrong_keys=1000000", **variables)
    hooks = {"SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks", "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"}
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--request-timeout=60"]
    command += [f"--seed={SEED}", f"--max-examples={CASES}", *([] if key is None else [f"--header=X-API-Key:{key}"])]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **hooks}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    paths = server.client.get("/openapi.json").json()["paths"]
    number = sum(map(len, paths.values()))
    assert f"{number} selected / {number} total" in done.stdout
    assert "Stateful" in done.stdout
