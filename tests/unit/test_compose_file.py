"""docker-compose.yml is valid, whole and safe to scale, and starts what `run.py serve` starts."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import jsonschema
import pytest
from django.conf import settings

from devstack import services
from tests.support.compose import ROOT, compose

FILE = compose()
SERVICES = FILE["services"]
OURS = {"migrate", "api", "streams", "worker", "maintenance", "beat"}
FILES = "artifacts:/artifacts"
SCALED = ("api", "worker", "streams")
# What differs from run.py serve, and nothing else does: a container listens to its network, keeps its clock's notes in its /tmp,
# and gives requests under way more time than somebody who has pressed Ctrl-C.
ELSEWHERE = {"--host": "0.0.0.0", "--workers-kill-timeout": "10", "--schedule": "/tmp/beat"}  # noqa: S104, S108
VARIABLES = {"API_THREADS": "6", "API_WORKERS": "5", "WORKER_PROCESSES": "7", "POSTGRES_PASSWORD": "p"}


def launched(name, env):
    """What the launcher would start, in this environment."""
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
    """The launcher's words with those that differ in a container."""
    words = ["python" if word == sys.executable else word for word in argv]
    for option, value in ELSEWHERE.items():
        if option in words:
            words[words.index(option) + 1] = value
    return words


def complaints(file):
    """What the specification's schema says of the file; a project's `name` is younger than this edition of it."""
    schema = json.loads((ROOT / "tests/data/compose-spec.json").read_text(encoding="utf-8"))
    known = {member: value for member, value in file.items() if member != "name"}
    return [error.message for error in jsonschema.Draft201909Validator(schema).iter_errors(known)]


def test_it_is_a_compose_file():
    assert complaints(FILE) == []
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", FILE["name"])


# Where each process keeps its metrics (observability/metrics/multiprocess_ids.py).
FIGURES = "metrics:/metrics"


@pytest.mark.parametrize("wrong", [{"comand": ["x"]}, {"restart": 3}, {"depends_on": {"api": "healthy"}}])
def test_what_compose_would_refuse_is_found(wrong):
    assert complaints({**FILE, "services": {**SERVICES, "api": {**SERVICES["api"], **wrong}}})


def test_it_has_every_part():
    assert SERVICES.keys() == OURS | {"postgres", "redis", "proxy"}


@pytest.mark.parametrize("variables", [{"POSTGRES_PASSWORD": "p"}, VARIABLES], ids=["as it stands", "tuned"])
@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_runs_what_the_launcher_runs(name, variables):
    service = compose(variables)["services"][name]
    defaults = {"WORKER_PROCESSES": "4"}  # a server has more processors than a laptop's demo should take
    env = {**defaults, **variables}
    command = launched(name, env)
    assert service["command"] == in_a_container(command.argv)
    told = {variable: value for variable, value in command.env.items() if env.get(variable) != value}
    assert service["environment"].items() >= told.items()


def test_as_many_duplicates_may_wait_as_fit_the_threads_that_there_are():
    api = compose(VARIABLES)["services"]["api"]
    words = api["command"]
    assert words[words.index("--blocking-threads") + 1] == api["environment"]["API_THREADS"] == "6"


def test_the_database_has_no_password_unless_one_is_given():
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        compose({})


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"migrate"}))
def test_whoever_stays_is_watched_and_started_again(name):
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert SERVICES[name]["logging"]["options"]["max-size"]


def test_whoever_must_come_first_is_waited_for():
    conditions = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    migrated = {"migrate": "service_completed_successfully", "redis": "service_healthy"}
    assert conditions["migrate"] == {"postgres": "service_healthy"}
    assert all(conditions[name] == migrated for name in OURS - {"migrate"})
    assert conditions["proxy"] == {"api": "service_healthy", "streams": "service_healthy"}


@pytest.mark.parametrize("name", SCALED)
def test_whoever_is_scaled_owns_no_name_and_no_port_of_the_host(name):
    assert not SERVICES[name].keys() & {"container_name", "hostname", "ports", "network_mode"}
    assert SERVICES[name]["volumes"] == [FIGURES, FILES]


def test_the_proxy_alone_is_reached_from_outside():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    assert FILE["networks"]["data"]["internal"] is True
    assert {name for name, service in SERVICES.items() if service.get("networks") == ["data"]} == {
        "postgres",
        "redis",
    }
    assert "networks" not in SERVICES["proxy"]


@pytest.mark.parametrize("name", sorted(OURS | {"proxy"}))
def test_a_process_can_change_nothing_but_its_own_scratch_folder_the_figures_and_the_files_it_deals_with(
    name,
):
    service = SERVICES[name]
    assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])  # noqa: S108
    writable = {volume for volume in service.get("volumes", []) if not volume.endswith(":ro")}
    deals_with_files = name in {*SCALED, "maintenance"}
    assert writable == ({FIGURES} if name in OURS else set()) | ({FILES} if deals_with_files else set())


def test_the_figures_are_shared_by_all_in_memory_and_bounded():
    folder = FIGURES.partition(":")[2]
    assert {SERVICES[name]["environment"]["PROMETHEUS_MULTIPROC_DIR"] for name in OURS} == {folder}
    options = FILE["volumes"]["metrics"]["driver_opts"]
    assert options["type"] == "tmpfs"
    assert re.search(r"size=\d+m", options["o"])


def test_the_broker_evicts_nothing_and_writes_down_what_it_holds():
    words = SERVICES["redis"]["command"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert "redis:/data" in SERVICES["redis"]["volumes"]


def test_images_are_pinned_to_a_version_that_can_do_what_is_asked_of_it():
    images = {name: SERVICES[name]["image"] for name in ("postgres", "redis", "proxy")}
    versions = {name: tuple(map(int, re.findall(r"\d+", image))) for name, image in images.items()}
    assert versions["postgres"] >= (14,)
    assert versions["redis"] >= (6, 2)
    assert versions["proxy"] >= (1, 28)  # `resolve` came with 1.27.3


def test_a_stop_outlasts_what_the_process_does_with_it():
    def seconds(name):
        return int(SERVICES[name]["stop_grace_period"].removesuffix("s"))

    words = SERVICES["api"]["command"]
    assert seconds("api") > int(words[words.index("--workers-kill-timeout") + 1])
    assert seconds("worker") == seconds("maintenance") == settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT + 10


def test_the_example_of_an_environment_is_enough():
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    names = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert names >= {"SECRET_KEY", "IDEMPOTENCY_FINGERPRINT_KEYS", "POSTGRES_PASSWORD", "ALLOWED_HOSTS"}
