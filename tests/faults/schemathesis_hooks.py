"""What schemathesis takes for a mistake and is none (its `SCHEMATHESIS_HOOKS`)."""

import os
from datetime import date

import schemathesis

# HTTP has clients send headers that the server does not know (RFC 9110 §5.1): one more is no violation.
UNKNOWN_HEADER = "x-schemathesis-unknown-property"


# The description says in words what JSON Schema cannot: an exponent beyond ±308 is refused, however small the number.
SMALLEST = 1e-308
# The longest period of a report, as in `reports.generate`; this process knows no Django.
PERIOD_DAYS_MAX = 366


@schemathesis.hook
def filter_case(context, case):
    return (
        UNKNOWN_HEADER not in (case.headers or {})
        and not holds_too_small_a_number(case.body)
        and not is_bound_to_now(case.body)
        and not has_unprintable_key(case.body)
        and not has_impossible_period(case.body)
    )


def is_bound_to_now(body):
    """Whether it says when: a deadline must be to come, and run_at soon, which no schema can say. Other tests try them."""
    return isinstance(body, dict) and not {"run_at", "deadline"}.isdisjoint(body)


def has_unprintable_key(body):
    """Whether its concurrency key holds a character that Unicode calls unprintable: a property that patterns do not know."""
    key = body.get("concurrency_key") if isinstance(body, dict) else None
    return isinstance(key, str) and not key.isprintable()


def has_impossible_period(body):
    """Return whether a report's days are not in order or too many: no schema can relate two dates. Other tests try them."""
    params = body.get("params") if isinstance(body, dict) else None
    try:
        days = (date.fromisoformat(params["to"]) - date.fromisoformat(params["from"])).days + 1
    except (TypeError, KeyError, ValueError):
        return False
    return not 1 <= days <= PERIOD_DAYS_MAX


def holds_too_small_a_number(value):
    """Whether some number within is closer to 0 than we read."""
    if isinstance(value, dict | list):
        return any(map(holds_too_small_a_number, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and 0 < abs(value) < SMALLEST


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Where the test names a job (`SEMEL_FUZZ_JOB`), every second id is its own: by chance none ever would be."""
    job_id = os.environ.get("SEMEL_FUZZ_JOB")
    given = path_parameters and path_parameters.get("job_id")
    if job_id and isinstance(given, str) and given[-1:] in "02468ace":
        path_parameters["job_id"] = job_id
    return path_parameters
