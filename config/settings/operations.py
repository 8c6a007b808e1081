"""The shipped operations: payment provider, provider events, database server."""

from config.env import env

# --- Payment provider ------------------------------------------------------------------------------------------------

# Address of the payment provider. Empty: no call is sent, and payment jobs fail after their attempts.
PAYMENT_PROVIDER_URL = env.str("PAYMENT_PROVIDER_URL", default="")
# Our secret key at the payment provider.
PAYMENT_PROVIDER_KEY = env.str("PAYMENT_PROVIDER_KEY", default="")
# Seconds that a call to it may take in all. Card networks answer within seconds; a longer call is better repeated.
PAYMENT_PROVIDER_TIMEOUT_SECONDS = env.float("PAYMENT_PROVIDER_TIMEOUT_SECONDS", default=10.0)

# --- Provider events -------------------------------------------------------------------------------------------------

# Sources that may send events to /v1/inbox/{source}, "source:whsec_…". List a source twice while its secret is rotated.
INBOX_SECRETS = env.list("INBOX_SECRETS", default=[])
# The function that handles a source's events, "source:function". Each source with a secret needs one.
INBOX_HANDLERS = env.list("INBOX_HANDLERS", default=["sandbox:operations.payments.events.handle_event"])

# --- Provisioned databases -------------------------------------------------------------------------------------------

# A database on the server where databases are provisioned, with a role that has CREATEDB and CREATEROLE
# (docs/how-to/provisioning.md), not through PgBouncer. Empty: those operations are retried until it is set.
PROVISION_DATABASE_URL = env.str("PROVISION_DATABASE_URL", default="")
# Address of that server for clients, host:port, if it differs from the workers' address.
PROVISION_PUBLIC_ADDRESS = env.str("PROVISION_PUBLIC_ADDRESS", default="")
# Seconds that a change there may take in all: copying the template takes less than one second, and waiting for other
# sessions that use it up to five.
PROVISION_TIMEOUT_SECONDS = env.float("PROVISION_TIMEOUT_SECONDS", default=15.0)
# Sessions that a provisioned role may open at once: one or two small pools, of a server's usual hundred.
PROVISION_CONNECTION_LIMIT = env.int("PROVISION_CONNECTION_LIMIT", default=10)
