"""All checks, one after the other; a server that is away is a finding like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import redis
from django.conf import settings
from django.core.checks import ERROR, WARNING, run_checks

from foundation.processes import Process
from observability.doctor import broker, database, work
from observability.doctor.finding import Finding, error, ok, warning
from observability.liveness import signs_folder
from observability.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def examine() -> list[Finding]:
    """Every finding. Takes seconds at most for each server that does not answer, and raises nothing for one."""
    findings = list(_settings())
    findings += _asking("database.reachable", _database)
    findings += _asking("broker.reachable", _broker)
    return findings


def _settings() -> Iterator[Finding]:
    wrong = [
        one
        for one in run_checks(include_deployment_checks=True)
        if one.level >= WARNING and not one.is_silenced()
    ]
    for one in wrong:
        say = error if one.level >= ERROR else warning
        yield say(
            f"settings.{one.id or 'check'}",
            str(one.msg),
            means="A setting does not hold together with the others, or with a deployment's needs.",
            do=str(one.hint or "See docs/settings.md."),
        )
    if not wrong:
        yield ok("settings", "The settings hold together.")
    charges = any(name.endswith(".ChargePayment") for name in settings.OPERATIONS)
    if charges and not settings.PAYMENT_PROVIDER_URL:
        yield warning(
            "settings.payment_provider",
            "PAYMENT_PROVIDER_URL is not set, and payments.charge is among the OPERATIONS.",
            means="Charges are accepted and then fail.",
            do="Set PAYMENT_PROVIDER_URL and PAYMENT_PROVIDER_KEY, or take the operation out of OPERATIONS.",
        )
    provisions = any(name.endswith(".ProvisionDatabase") for name in settings.OPERATIONS)
    if provisions and not settings.PROVISION_DATABASE_URL:
        yield warning(
            "settings.provision_database",
            "PROVISION_DATABASE_URL is not set, and resources.provision_database is among the OPERATIONS.",
            means="Databases are accepted and then fail.",
            do="Set it (docs/provisioning.md), or take the operation and resources.drop_database out of OPERATIONS.",
        )
    yield _storage()


def _storage() -> Finding:
    """Signs of life and artifacts are files; where they cannot be written, neither is there."""
    folder = signs_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / "doctor"
        probe.write_text("")
        probe.unlink()
    except OSError as refused:
        return warning(
            "storage.alive",
            f"{folder} cannot be written to: {refused.strerror}.",
            means="Processes leave no signs of life: health checks call them dead.",
            do="Mount a tmpfs at /tmp, or set ALIVE_DIR.",
        )
    return ok("storage.alive", f"{folder} can be written to.")


def _database() -> Iterator[Finding]:
    with database.connect(Process.API) as opened:
        asked = database.Asked(opened)
        yield ok("database.reachable", "The database answers.")
        yield from database.look_at_database(asked)
        if asked.value(
            "SELECT to_regclass('idempotency_record') IS NOT NULL AND to_regclass('job') IS NOT NULL"
        ):
            yield from work.look_at_work(asked)
    yield from database.look_at_sessions()


def _broker() -> Iterator[Finding]:
    with broker.connect() as client:
        client.ping()
        yield ok("broker.reachable", "The broker answers.")
        yield from broker.look_at_broker(client)


def _asking(check: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What the look finds, until its server falls silent or refuses."""
    server = check.partition(".")[0]
    variable = "DATABASE_URL" if server == "database" else "REDIS_URL"
    try:
        yield from look()
    except (psycopg.Error, redis.RedisError, OSError, ValueError) as failed:
        reason = Redactor()(str(failed).strip().partition("\n")[0])
        yield error(
            check,
            f"{type(failed).__name__}: {reason}",
            means=f"The {server} could not be asked everything within seconds; what stands above of it was answered.",
            do=f"See that it runs and that {variable} names it, with the right password, from this host.",
        )
