"""A process raises its limit of open files for its connections, and refuses to start where the system allows too few."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Each case runs in a process of its own: a lowered hard limit stays low.
_LIMITED = """
import json, resource, sys
from devstack.console import LauncherError
from devstack.open_files import fitting_connections
from foundation.open_files import TooFewFilesError, allow_connections

soft, hard = map(int, sys.argv[1:3])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    value = eval(sys.argv[3])
except (LauncherError, TooFewFilesError) as error:
    value = f"{type(error).__name__}: {error}"
print(json.dumps([value, resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


def limited(soft, hard, expression):
    """Return the expression's value, or its error, and the process's limits after it."""
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(soft), str(hard), expression], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("soft", "connections", "raised"), [(1024, 1000, 1256), (1024, 768, 1024), (256, 3840, 4096), (4096, 10, 4096)]
)
def test_a_server_raises_its_limit_as_far_as_it_needs(soft, connections, raised):
    assert limited(soft, 4096, f"allow_connections({connections})") == [None, [raised, 4096]]


def test_a_server_does_not_start_if_the_system_allows_too_few_files():
    value, limits = limited(1024, 4096, "allow_connections(3841)")
    assert value == "TooFewFilesError: 3841 connections need 4097 open files, and this system allows 4096"
    assert limits == [1024, 4096]


@pytest.mark.parametrize(
    ("hard", "given", "api", "streams"),
    [
        (18_000, {}, 16384, 10_000),
        (18_000, {"API_CONNECTIONS": "17000"}, 17_000, 10_000),
        (12_000, {}, 11_744, 10_000),
        (4096, {}, 3840, 3840),
        (4096, {"STREAMS_MAX_WAITS": "9"}, 3840, 9),
    ],
)
def test_the_launcher_uses_fewer_connections_where_the_system_allows_fewer_files(hard, given, api, streams):
    value, limits = limited(1024, hard, f"fitting_connections({given})")
    assert value == {"API_CONNECTIONS": str(api), "STREAMS_MAX_WAITS": str(streams)}
    assert limits == [max(api, streams) + 256, hard]


@pytest.mark.parametrize(("hard", "given"), [(4096, {"API_CONNECTIONS": "3841"}), (200, {})])
def test_the_launcher_reports_a_limit_that_is_too_low(hard, given):
    value, _ = limited(100, hard, f"fitting_connections({given})")
    wanted = int(given.get("API_CONNECTIONS", 16384))
    assert value.startswith(f"LauncherError: API_CONNECTIONS ({wanted}) needs {wanted + 256} open files")
    assert f"allows {hard}: raise the limit" in value
