"""What schemathesis takes for a mistake and is none (its `SCHEMATHESIS_HOOKS`)."""

import schemathesis

# HTTP has clients send headers that the server does not know (RFC 9110 §5.1): one more is no violation.
UNKNOWN_HEADER = "x-schemathesis-unknown-property"


@schemathesis.hook
def filter_case(context, case):
    return UNKNOWN_HEADER not in (case.headers or {})
