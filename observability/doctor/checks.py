"""The doctor's system check, and the list of all findings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.checks import WARNING, CheckMessage, Tags, register, run_checks
from django.db import DEFAULT_DB_ALIAS

from observability.doctor import broker, database
from observability.doctor.findings import ask_server, judge, ok
from observability.liveness import liveness_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

_TAG = "doctor"


def examine() -> list[CheckMessage]:
    """Return all findings: settings first, then the deployment. A server that does not answer costs seconds at most."""
    deployment = run_checks(tags=[_TAG], include_deployment_checks=True, databases=[DEFAULT_DB_ALIAS])
    return [*_settings(), *(finding for finding in deployment if not finding.is_silenced())]


# A deployment check, because `migrate` runs all others first, and missing migrations would then stop it.
@register(Tags.database, _TAG, deploy=True)
def check_deployment(databases: Sequence[str] | None = None, **_options: Any) -> list[CheckMessage]:  # noqa: ANN401 - Django's signature
    """Check operations, this host, database, jobs and broker. Do nothing without `databases`, as Django requires."""
    if not databases:
        return []
    return [
        *_operations(),
        _storage(),
        *ask_server("database", "DATABASE_URL", database.findings()),
        *ask_server("broker", "REDIS_URL", broker.findings()),
    ]


def _settings() -> list[CheckMessage]:
    means = "The settings contradict each other, or do not fit a deployment."
    problems = [
        CheckMessage(
            message.level,
            f"{message.msg}\n{means}",
            hint=message.hint or "See docs/settings.md.",
            id=f"settings.{message.id or 'check'}",
        )
        for message in run_checks(include_deployment_checks=True)
        if message.level >= WARNING and not message.is_silenced()
    ]
    return problems or [ok("settings", "The settings fit together.")]


def _operations() -> list[CheckMessage]:
    """Find operations whose external system is not configured."""
    names = {path.rpartition(".")[2] for path in settings.OPERATIONS}
    return [
        judge(
            check,
            f"{setting} is not set, but OPERATIONS contains {name}.",
            warning=True,
            means="Jobs of this operation are accepted and then fail.",
            do="See docs/settings.md, or remove the operation from OPERATIONS.",
        )
        for check, setting, name in (
            ("settings.payment_provider", "PAYMENT_PROVIDER_URL", "ChargePayment"),
            ("settings.provision_database", "PROVISION_DATABASE_URL", "ProvisionDatabase"),
        )
        if name in names and not getattr(settings, setting)
    ]


def _storage() -> CheckMessage:
    folder, problem = liveness_folder(), None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / "doctor"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        problem = error.strerror
    return judge(
        "storage.alive",
        f"{folder} is not writable: {problem}." if problem else f"{folder} is writable.",
        warning=problem is not None,
        means="Processes cannot write their liveness files: health checks report them as dead.",
        do="Mount a tmpfs at /tmp, or set ALIVE_DIR.",
    )
