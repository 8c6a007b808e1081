"""Settings with which the demo does not wait as long as a deployment."""

from collections.abc import Mapping

# Seconds. They override the user's environment: the scenarios print these numbers, and would run for hours with a lease of one.
# A test proves that config/checks.py accepts them. They leave some slack for a slow machine.
DEMO_SETTINGS: Mapping[str, str] = {
    # A worker must be killed while it waits for the provider: time to read the provider's store and to send the signal.
    "PAYMENT_PROVIDER_TIMEOUT_SECONDS": "3",
    # The embedded server creates a database in a fraction of a second.
    "PROVISION_TIMEOUT_SECONDS": "3",
    # The lease outlasts this by the margins around an effect (2 s of the charge, 2 s of every effect), and 1 s to spare.
    "EFFECT_TIMEOUT_SECONDS": "5",
    "LEASE_SECONDS": "8",
    "HEARTBEAT_SECONDS": "2",
    # How soon the sweeper acts after a lease ended or the broker returned.
    "SWEEP_SECONDS": "0.5",
    "BACKOFF_BASE_SECONDS": "0.5",
}
# The defaults that the scenarios compare them with. config/settings cannot be imported without its secrets; a test compares.
DEFAULTS: Mapping[str, str] = {"LEASE_SECONDS": "45", "SWEEP_SECONDS": "5"}


def compared(name: str) -> str:
    """Return a text with the demo's value and the default value."""
    return f"{DEMO_SETTINGS[name]} s here instead of {DEFAULTS[name]} s"
