"""docker-compose.yml is valid, complete and safe to scale, and runs the commands of `run.py serve`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import jsonschema
import pytest
from django.conf import settings

from devstack import services
from foundation.open_files import SPARE_FILES
from tests.support.compose import ROOT, compose

FILE = compose()
SERVICES = FILE["services"]
OURS = {"migrate", "api", "streams", "worker", "maintenance", "beat"}
FILES = "artifacts:/artifacts"
SCALED = ("api", "worker", "streams")
# The only differences to run.py serve: a container listens on its network, keeps beat's schedule in its /tmp, and allows running
# requests more time than a user who pressed Ctrl-C.
ELSEWHERE = {"--host": "0.0.0.0", "--workers-kill-timeout": "10", "--schedule": "/tmp/beat"}  # noqa: S104, S108
VARIABLES = {
    "API_CONNECTIONS": "4000",
    "API_THREADS": "6",
    "API_WORKERS": "5",
    "WORKER_PROCESSES": "7",
    "POSTGRES_PASSWORD": "p",
}


def launched(name, env):
    """Return the launcher's command for this environment."""
    match name:
        case "api":
            return services.api(env, 8000)
        case "streams":
            return services.streams(env, 8001)
        case "beat":
            return services.beat(env, Path("/elsewhere"))
        case _:
            return getattr(services, name)(env)


def in_a_container(argv):
    """Return the launcher's command with the options that differ in a container."""
    words = ["python" if word == sys.executable else word for word in argv]
    for option, value in ELSEWHERE.items():
        if option in words:
            words[words.index(option) + 1] = value
    return words


def complaints(file):
    """Return the errors by the schema of the specification. This edition of it does not know a project's `name` yet."""
    schema = json.loads((ROOT / "tests/data/compose-spec.json").read_text(encoding="utf-8"))
    known = {member: value for member, value in file.items() if member != "name"}
    return [error.message for error in jsonschema.Draft201909Validator(schema).iter_errors(known)]


def test_the_compose_file_is_valid():
    assert complaints(FILE) == []
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", FILE["name"])


# Where each process keeps its metrics (observability/metrics/multiprocess_ids.py).
METRICS = "metrics:/metrics"


@pytest.mark.parametrize("wrong", [{"comand": ["x"]}, {"restart": 3}, {"depends_on": {"api": "healthy"}}])
def test_an_invalid_compose_file_is_detected(wrong):
    assert complaints({**FILE, "services": {**SERVICES, "api": {**SERVICES["api"], **wrong}}})


def test_the_compose_file_has_every_service():
    assert SERVICES.keys() == OURS | {"postgres", "redis", "proxy"}


@pytest.mark.parametrize("variables", [{"POSTGRES_PASSWORD": "p"}, VARIABLES], ids=["defaults", "tuned"])
@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_runs_what_the_launcher_runs(name, variables):
    service = compose(variables)["services"][name]
    defaults = {"WORKER_PROCESSES": "4"}  # a server has more processors than a demo should use
    env = {**defaults, **variables}
    command = launched(name, env)
    assert service["command"] == in_a_container(command.argv)
    expected = {variable: value for variable, value in command.env.items() if env.get(variable) != value}
    assert service["environment"].items() >= expected.items()


@pytest.mark.parametrize(
    ("option", "name"), [("--blocking-threads", "API_THREADS"), ("--backpressure", "API_CONNECTIONS")]
)
def test_the_api_knows_its_numbers_of_threads_and_connections(option, name):
    api = compose(VARIABLES)["services"]["api"]
    words = api["command"]
    assert words[words.index(option) + 1] == api["environment"][name] == VARIABLES[name]


def test_the_launcher_has_the_default_numbers_of_connections():
    assert {name: int(count) for name, count in services.CONNECTIONS.items()} == {
        "API_CONNECTIONS": settings.API_CONNECTIONS,
        "STREAMS_MAX_WAITS": settings.STREAMS_MAX_WAITS,
    }


def test_a_container_may_open_its_connections():
    connections = {"api": settings.API_CONNECTIONS, "streams": settings.STREAMS_MAX_WAITS}
    for name, count in connections.items():
        assert SERVICES[name]["ulimits"]["nofile"] >= count + SPARE_FILES
        # Otherwise the kernel would cut the backlog.
        assert SERVICES[name]["sysctls"]["net.core.somaxconn"] == int(services.BACKLOG)


def test_a_password_of_the_database_is_required():
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        compose({})


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"migrate"}))
def test_a_service_has_a_health_check_and_restarts(name):
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert SERVICES[name]["logging"]["options"]["max-size"]


def test_a_service_waits_for_its_dependencies():
    conditions = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    migrated = {"migrate": "service_completed_successfully", "redis": "service_healthy"}
    assert conditions["migrate"] == {"postgres": "service_healthy"}
    assert all(conditions[name] == migrated for name in OURS - {"migrate"})
    assert conditions["proxy"] == {"api": "service_healthy", "streams": "service_healthy"}


@pytest.mark.parametrize("name", SCALED)
def test_a_scaled_service_has_no_fixed_name_or_port(name):
    assert not SERVICES[name].keys() & {"container_name", "hostname", "ports", "network_mode"}
    assert SERVICES[name]["volumes"] == [METRICS, FILES]


def test_only_the_proxy_is_reachable_from_outside():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    assert FILE["networks"]["data"]["internal"] is True
    assert {name for name, service in SERVICES.items() if service.get("networks") == ["data"]} == {"postgres", "redis"}
    assert "networks" not in SERVICES["proxy"]


@pytest.mark.parametrize("name", sorted(OURS | {"proxy"}))
def test_a_process_can_write_only_to_tmp_metrics_and_its_artifacts(name):
    service = SERVICES[name]
    assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])  # noqa: S108
    writable = {volume for volume in service.get("volumes", []) if not volume.endswith(":ro")}
    deals_with_files = name in {*SCALED, "maintenance"}
    assert writable == ({METRICS} if name in OURS else set()) | ({FILES} if deals_with_files else set())


def test_metrics_are_shared_in_memory_and_bounded():
    folder = METRICS.partition(":")[2]
    assert {SERVICES[name]["environment"]["PROMETHEUS_MULTIPROC_DIR"] for name in OURS} == {folder}
    options = FILE["volumes"]["metrics"]["driver_opts"]
    assert options["type"] == "tmpfs"
    assert re.search(r"size=\d+m", options["o"])


def test_the_broker_evicts_nothing_and_persists_its_queues():
    words = SERVICES["redis"]["command"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert "redis:/data" in SERVICES["redis"]["volumes"]


def test_images_are_pinned_to_supported_versions():
    images = {name: SERVICES[name]["image"] for name in ("postgres", "redis", "proxy")}
    versions = {name: tuple(map(int, re.findall(r"\d+", image))) for name, image in images.items()}
    assert versions["postgres"] >= (14,)
    assert versions["redis"] >= (6, 2)
    assert versions["proxy"] >= (1, 28)  # `resolve` came with 1.27.3


def test_the_stop_grace_is_longer_than_a_shutdown():
    def seconds(name):
        return int(SERVICES[name]["stop_grace_period"].removesuffix("s"))

    words = SERVICES["api"]["command"]
    assert seconds("api") > int(words[words.index("--workers-kill-timeout") + 1])
    assert seconds("worker") == seconds("maintenance") == settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT + 10


def test_the_example_environment_has_every_required_variable():
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    names = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert names >= {"SECRET_KEY", "IDEMPOTENCY_FINGERPRINT_KEYS", "POSTGRES_PASSWORD", "ALLOWED_HOSTS"}
