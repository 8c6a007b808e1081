"""GET /v1/operations: the params and the result of each operation as JSON Schema, and that code and schemas agree."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from rest_framework import serializers

from api.forms import read_body
from api.json_schema import schema_of_params, schema_of_result
from foundation.exact_json import loads
from jobs.operations import Operation
from jobs.registry import current_operation, operations
from jobs.states import State
from jobs.submission import Submission, submit_job
from operations.databases.drop import DropDatabase
from operations.databases.provision import ProvisionDatabase
from operations.payments.charge import ChargePayment
from operations.payments.refund import RefundPayment
from operations.reports.generate import GenerateReport
from operations.sleep import Sleep
from tests.support.client import CHARGE, problem
from tests.support.provider import running_provider
from tests.support.target_server import target_server
from workers.executor import execute_job

JOB_ID = "0199f3a4-7a3c-7000-8000-000000000000"
SHIPPED = [ChargePayment, DropDatabase, GenerateReport, ProvisionDatabase, RefundPayment, Sleep]


def listed(api):
    response = api.get("/v1/operations")
    assert response.status_code == 200, response.content
    return {operation["name"]: operation for operation in response.json()["data"]}


def fits(value, schema):
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).is_valid(value)


def test_operations_are_listed_in_the_order_of_their_names(api):
    names = [operation["name"] for operation in api.get("/v1/operations").json()["data"]]
    assert names == sorted({name for name, _ in operations()})
    assert {operation.name for operation in SHIPPED} <= set(names)


def test_an_operation_shows_its_schemas_limits_and_retry_policy(api, settings):
    charge = listed(api)["payments.charge"]
    assert (charge["object"], charge["version"], charge["versions"]) == ("operation", 1, [1])
    assert charge["description"].startswith("Charge a payment.")
    assert charge["params"]["required"] == ["amount", "currency", "source"]
    assert charge["params"]["properties"]["amount"]["minimum"] == 1
    assert charge["params"]["additionalProperties"] is False
    assert charge["result"]["properties"]["charge_id"] == {"type": "string", "minLength": 1}
    assert charge["io_bound"] is current_operation("payments.charge").io_bound
    assert charge["limits"] == {
        "timeout_seconds": 60,
        "max_body_bytes": settings.DATA_UPLOAD_MAX_MEMORY_SIZE,
        "max_result_bytes": settings.RESULT_MAX_BYTES,
        "max_run_at_seconds": settings.RUN_AT_MAX_SECONDS,
    }
    assert charge["retry_policy"]["max_attempts"] == 5
    assert charge["retry_policy"]["backoff"]["max_seconds"] == settings.BACKOFF_MAX_SECONDS


def test_every_schema_is_json_schema_2020_12(api):
    for operation in listed(api).values():
        for schema in (operation["params"], operation["result"]):
            assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
            Draft202012Validator.check_schema(schema)


def test_an_operation_without_a_declared_result_may_return_any_json(api):
    schema = listed(api)["test.anything"]["result"]
    assert all(fits(value, schema) for value in (None, 1, "x", [], {"a": 1}))


def test_the_newest_version_of_an_operation_is_shown(api, monkeypatch):
    class Newer(Sleep):
        """Sleep better."""

        version = 2

    both = {**operations(), ("demo.sleep", 2): Newer()}
    monkeypatch.setattr("api.operation_list.operations", lambda: both)
    monkeypatch.setattr("jobs.registry.operations", lambda: both)
    sleep = listed(api)["demo.sleep"]
    assert (sleep["version"], sleep["versions"], sleep["description"]) == (2, [1, 2], "Sleep better.")


def test_a_query_parameter_is_refused(api):
    problem(api.get("/v1/operations?name=demo.sleep"), 400, "validation-failed")


def test_the_list_is_cached_privately_for_five_minutes(api):
    response = api.get("/v1/operations")
    assert response["Cache-Control"] == "private, max-age=300"
    assert response["ETag"].startswith('W/"')


# --- Nested forms -----------------------------------------------------------------------------------------------------


class _Item(serializers.Serializer):
    sku = serializers.CharField()
    kind = serializers.ChoiceField(choices=["a", "b"])


class _Order(serializers.Serializer):
    lines = _Item(many=True)
    note = serializers.CharField(allow_null=True, required=False)


class _Plain(Operation):
    name = "test.plain"
    params = _Order
    result = {"type": ["string", "null"]}

    def perform(self, params, job):
        return None


def test_the_schema_of_a_nested_form_has_no_outside_references():
    schema = schema_of_params(_Order)
    assert "components" not in json.dumps(schema)
    assert "x-spec" not in json.dumps(schema)
    assert fits({"lines": [{"sku": "1", "kind": "a"}]}, schema)
    assert not fits({"lines": [{"sku": "1", "kind": "c"}]}, schema)
    assert not fits({"lines": [], "x": 1}, schema)
    result = schema_of_result(_Order)
    assert fits({"lines": [], "added": "later"}, result), "members may be added to results"
    assert not fits({"lines": [{}]}, result)


def test_a_result_that_is_not_an_object_is_declared_as_json_schema(api, monkeypatch):
    monkeypatch.setattr("api.operation_list.operations", lambda: {("test.plain", 1): _Plain()})
    monkeypatch.setattr("jobs.registry.operations", lambda: {("test.plain", 1): _Plain()})
    schema = listed(api)["test.plain"]["result"]
    assert schema.pop("$schema")
    assert schema == _Plain.result


# --- The schema of params agrees with the form ------------------------------------------------------------------------

_TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "usd",
            "USD",
            "us",
            "usdx",
            "orders_1",
            "1orders",
            "o" * 40,
            "o" * 41,
            "tok_visa",
            JOB_ID,
            JOB_ID.upper(),
            JOB_ID.replace("-", ""),
            f"urn:uuid:{JOB_ID}",
            "x" * 255,
            "x" * 256,
            "x" * 500,
            "x" * 501,
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
)
_NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 0.5, 1.0, 1999, 2**53 - 1, 2**53, 3600, 3600.5, 3601]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not 0 < abs(number) < 1e-300),
)
_VALUES = st.one_of(_TEXTS, _NUMBERS, st.none(), st.booleans(), st.just([]), st.just({}), st.just(["usd"]))
_VALID = {
    "amount": 1999,
    "currency": "usd",
    "source": "tok_visa",
    "description": "",
    "seconds": 0.5,
    "capture": "separate",
    "customer": "c",
    "job": JOB_ID,
    "name": "orders",
    "format": "csv",
    "from": "2026-03-01",
    "to": "2026-03-31",
}


def _params(form):
    """Return a strategy for valid params in which up to two members are changed and up to two are missing."""
    valid = {name: _VALID[name] for name in form().fields}
    changes = st.dictionaries(st.sampled_from([*valid, "other"]), _VALUES, max_size=2)
    omitted = st.sets(st.sampled_from([*valid]), max_size=2)
    return st.builds(
        lambda changed, missing: {name: value for name, value in {**valid, **changed}.items() if name not in missing},
        changes,
        omitted,
    )


def is_accepted_by(form, text):
    try:
        read_body(form, loads(text))
    except serializers.ValidationError:
        return False
    return True


@pytest.mark.parametrize("operation", SHIPPED, ids=lambda operation: operation.name)
def test_a_schema_accepts_exactly_the_params_that_its_form_accepts(operation, pytestconfig):
    form, schema = operation.params, schema_of_params(operation.params)
    seen = set()

    @settings(
        max_examples=pytestconfig.getoption("--fuzz-examples") * 15,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(_params(form) | _VALUES)
    @example({name: _VALID[name] for name in form().fields})
    @example({})
    def check(params):
        # `$` in Python also matches before a final line break; `$` in JSON Schema (ECMA 262) does not.
        assume(not any(str(value).endswith("\n") for value in (params.values() if isinstance(params, dict) else ())))
        text = json.dumps(params).encode()
        is_accepted = is_accepted_by(form, text)
        assert fits(json.loads(text), schema) is is_accepted, params
        seen.add(is_accepted)

    check()
    assert seen == {True, False}


# --- The schema of the result agrees with real runs -------------------------------------------------------------------


@pytest.fixture
def provider(tmp_path, settings):
    with running_provider(tmp_path / "provider.sqlite") as running:
        settings.PAYMENT_PROVIDER_URL, settings.PAYMENT_PROVIDER_KEY = running.url, running.key
        yield running


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("payments.charge", CHARGE["params"]),
        ("payments.charge", {**CHARGE["params"], "description": "x", "amount": 1}),
        ("demo.sleep", {"seconds": 0}),
        ("demo.sleep", {"seconds": Decimal("0.010")}),
    ],
)
def test_the_result_of_a_run_fits_its_schema(api, tenant, provider, name, params):
    submission = Submission(operation=current_operation(name), params=params)
    submitted = submit_job(tenant_id=tenant.id, mode="test", submission=submission)
    job = execute_job(submitted.id)
    assert job.state == State.SUCCEEDED
    result = api.get(f"/v1/jobs/{job.id}").json()["result"]
    schema = listed(api)[name]["result"]
    assert fits(result, schema), result
    assert set(result) == set(schema["properties"]) == set(schema["required"])


def test_the_result_of_a_refund_fits_its_schema(api, tenant, provider):
    def run(name, params):
        submission = Submission(operation=current_operation(name), params=params)
        job = execute_job(submit_job(tenant_id=tenant.id, mode="test", submission=submission).id)
        assert job.state == State.SUCCEEDED
        return job.id

    charge = run("payments.charge", CHARGE["params"])
    result = api.get(f"/v1/jobs/{run('payments.refund', {'job': str(charge)})}").json()["result"]
    schema = listed(api)["payments.refund"]["result"]
    assert fits(result, schema), result
    assert set(result) == set(schema["properties"])


def test_the_results_of_operations_on_databases_fit_their_schemas(api, tenant, settings):
    with target_server() as server:
        settings.PROVISION_DATABASE_URL = server.url
        for name in ("resources.provision_database", "resources.drop_database"):
            submission = Submission(operation=current_operation(name), params={"name": "orders"})
            job = execute_job(submit_job(tenant_id=tenant.id, mode="test", submission=submission).id)
            result = api.get(f"/v1/jobs/{job.id}").json()["result"]
            schema = listed(api)[name]["result"]
            assert fits(result, schema), result
            assert set(result) == set(schema["properties"]) == set(schema["required"])


def test_the_result_of_a_report_fits_its_schema(api, tenant, provider, folder):
    params = {"format": "csv", "from": "2026-03-01", "to": "2026-03-31"}
    submission = Submission(operation=current_operation("reports.generate"), params=params)
    job = execute_job(submit_job(tenant_id=tenant.id, mode="test", submission=submission).id)
    document = api.get(f"/v1/jobs/{job.id}").json()
    schema = listed(api)["reports.generate"]["result"]
    assert fits(document["result"], schema), document
    assert set(document["result"]) == set(schema["properties"]) == set(schema["required"])
    assert [artifact["name"] for artifact in document["artifacts"]] == [document["result"]["artifact"]]


def test_every_shipped_operation_declares_its_result():
    shipped = {name for name, _ in operations() if not name.startswith("test.")}
    assert shipped == {operation.name for operation in SHIPPED}, "add the new operation to SHIPPED"
    assert all(current_operation(name).result for name in shipped)
