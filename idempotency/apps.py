"""The app `idempotency`."""

from django.apps import AppConfig
from django.conf import settings

from foundation import fault_points


class IdempotencyConfig(AppConfig):
    name = "idempotency"
    verbose_name = "Idempotency"
    default_auto_field = "django.db.models.BigAutoField"  # another project may have another default

    def ready(self) -> None:
        from idempotency import checks  # noqa: F401, PLC0415 - registers the system checks

        fault_points.arm(getattr(settings, "FAULT_POINT", ""))
