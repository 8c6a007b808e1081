"""The doctor's system check, and the list of all findings."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core.checks import ERROR, WARNING, CheckMessage, Tags, register, run_checks
from django.db import DEFAULT_DB_ALIAS

from observability.doctor import broker, database
from observability.doctor.findings import ADVICE, ask_server, judge
from observability.liveness import liveness_folder

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
        *ask_server("database.reachable", database.findings()),
        *ask_server("broker.reachable", broker.findings()),
    ]


def _settings() -> list[CheckMessage]:
    messages = [
        message
        for message in run_checks(include_deployment_checks=True)
        if message.level >= WARNING and not message.is_silenced()
    ]
    findings = []
    for message in messages:
        is_error = message.level >= ERROR
        finding = judge("settings", str(message.msg), error=is_error, warning=True)
        finding.id, finding.hint = (f"settings.{message.id or 'check'}", message.hint or ADVICE["settings"]["do"])
        findings.append(finding)
    return findings or [judge("settings", "The settings fit together.")]


def _operations() -> Iterator[CheckMessage]:
    """Find operations whose external system is not configured."""
    names = {path.rpartition(".")[2] for path in settings.OPERATIONS}
    for check, setting, name in (
        ("settings.payment_provider", "PAYMENT_PROVIDER_URL", "ChargePayment"),
        ("settings.provision_database", "PROVISION_DATABASE_URL", "ProvisionDatabase"),
    ):
        if name in names and not getattr(settings, setting):
            found = f"{setting} is not set, but OPERATIONS contains {name}."
            yield judge(check, found, warning=True, advice="settings.operation")


def _storage() -> CheckMessage:
    folder = liveness_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / "doctor"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        return judge("storage.alive", f"{folder} is not writable: {error.strerror}.", warning=True)
    return judge("storage.alive", f"{folder} is writable.")
