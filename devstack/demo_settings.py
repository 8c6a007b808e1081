"""The demo's pace: what a deployment waits for a minute, an audience need not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Seconds. They hold whatever the user has set: the scenes say these figures, and with a lease of an hour would outlast their
# audience. config/checks.py is content with them (a test asks it), and there is slack for a machine that is slow:
TEMPO: Mapping[str, str] = {
    # A worker must be killed while it waits for the provider's answer: time to look into the book, and to send the signal.
    "PAYMENT_PROVIDER_TIMEOUT_SECONDS": "3",
    # The embedded server makes a database in a fraction of a second.
    "PROVISION_TIMEOUT_SECONDS": "3",
    # An effect's time-out and what is needed around it (the charge's 2 s, every effect's 2 s), and a second to spare.
    "EFFECT_TIMEOUT_SECONDS": "5",
    "LEASE_SECONDS": "8",
    "HEARTBEAT_SECONDS": "2",
    # What follows the end of a lease, or the return of a broker.
    "SWEEP_SECONDS": "0.5",
    "PUBLISH_GRACE_SECONDS": "1",
    "BACKOFF_BASE_SECONDS": "0.5",
}
# What the scenes compare them with: config/settings/ has them with their reasons, and cannot be read without its secrets.
DEFAULTS: Mapping[str, str] = {"LEASE_SECONDS": "45", "SWEEP_SECONDS": "5", "PUBLISH_GRACE_SECONDS": "5"}


def instead(name: str) -> str:
    """For the audience: what holds here, and what it would be elsewhere."""
    return f"{TEMPO[name]} s here instead of {DEFAULTS[name]} s"
