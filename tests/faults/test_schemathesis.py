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

from config.openapi.endpoints import ENDPOINTS
from jobs.models import Job
from tests.conftest import FUZZ_EXAMPLES
from tests.factories import TenantFactory, new_api_key
from tests.stack import running_stack

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def test_every_endpoint_answers_anything_as_described(tmp_path, pytestconfig):
    examples = pytestconfig.getoption("--fuzz-examples")
    api_key = new_api_key(TenantFactory(), is_admin=True)
    with running_stack(tmp_path) as stack:
        url = stack.start_api()
        command = [SCHEMATHESIS, "run", f"{url}/schema", "--checks", "all", "--max-examples", str(examples)]
        # The same requests each time; a bigger run tries others.
        seed = [] if examples > FUZZ_EXAMPLES else ["--seed", "1"]
        found = subprocess.run(
            [*command, *seed, "--header", f"Authorization: Bearer {api_key}", "--no-color", "--warnings=off"],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SCHEMATHESIS_HOOKS": "tests.faults.schemathesis_hooks",
            },
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert found.returncode == 0, f"{found.stdout}\n{stack.logs()}"
    # It tried all there is but the schema itself, and got through to where jobs are made.
    assert re.search(rf"Tested: +{len(ENDPOINTS) - 1}\b", found.stdout), found.stdout
    assert Job.objects.exists()
