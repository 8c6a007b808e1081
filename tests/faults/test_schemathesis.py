"""Every endpoint under requests that schemathesis makes up from /schema: valid, invalid and in sequence.

The suite's share is bounded. The bigger run: `python3 run.py test -n 0 tests/faults/test_schemathesis.py --fuzz-examples 500`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from api.openapi import document
from jobs.models import Job
from jobs.states import State
from tests.conftest import FUZZ_EXAMPLES
from tests.support.factories import TenantFactory, new_api_key
from tests.support.scenarios import in_state
from tests.support.stack import running_stack

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def fuzz(url, folder, examples, *words, **env):
    """Return schemathesis's report on the service at this address."""
    command = [SCHEMATHESIS, "--config-file", Path(__file__).with_name("schemathesis.toml"), "run", f"{url}/schema"]
    # The same requests each time; a bigger run tries others.
    seed = [] if examples > FUZZ_EXAMPLES else ["--seed", "1"]
    return subprocess.run(
        [*command, "--checks", "all", "--max-examples", str(examples), *seed, *words, "--no-color", "--warnings=off"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.faults.schemathesis_hooks", **env},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def test_every_endpoint_answers_anything_as_described(tmp_path, pytestconfig):
    examples = pytestconfig.getoption("--fuzz-examples")
    api_key = new_api_key(TenantFactory(), is_admin=True)
    with running_stack(tmp_path) as stack:
        found = fuzz(stack.start_api(), tmp_path, examples, "--header", f"Authorization: Bearer {api_key}")
        assert found.returncode == 0, f"{found.stdout}\n{stack.logs()}"
    # It tried all there is but the schema itself, and got through to where jobs are made.
    described = sum(len(item) for item in document()["paths"].values())
    assert re.search(rf"Tested: +{described - 1}\b", found.stdout), found.stdout
    assert Job.objects.exists()


# Of a stream the description says in words that it takes no `limit`, and schemathesis takes its schema for that of each event,
# where OpenAPI 3.1 knows the whole alone.
NOT_OF_STREAMS = ["--exclude-checks", "positive_data_acceptance,response_schema_conformance"]


@pytest.mark.parametrize(
    ("accept", "operations", "words"),
    [("*/*", ["readJob", "listEvents"], []), ("text/event-stream", ["listEvents"], NOT_OF_STREAMS)],
    ids=["as JSON", "as a stream"],
)
def test_endpoints_of_the_streams_process_answer_any_input_as_described(
    tmp_path, pytestconfig, accept, operations, words
):
    """Use the id of an ended job in half of the requests, and any id in the others."""
    tenant = TenantFactory()
    job = in_state(tenant, State.SUCCEEDED)
    headers = ["--header", f"Authorization: Bearer {new_api_key(tenant)}", "--header", f"Accept: {accept}"]
    chosen = [word for name in operations for word in ("--include-operation-id", name)]
    # No link leads from one of them to the other.
    words = [*words, *headers, *chosen, "--phases", "examples,coverage,fuzzing"]
    examples = pytestconfig.getoption("--fuzz-examples")
    with running_stack(tmp_path) as stack:
        found = fuzz(stack.start_streams(), tmp_path, examples, *words, SEMEL_FUZZ_JOB=str(job.id))
        assert found.returncode == 0, f"{found.stdout}\n{stack.logs()}"
    assert re.search(rf"Tested: +{len(operations)}\b", found.stdout), found.stdout
