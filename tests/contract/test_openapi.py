"""`/schema` and `/docs`: the document is valid and agrees with the code, and the page loads nothing from other hosts."""

from __future__ import annotations

import json
import re
from http import HTTPStatus

import pytest
import yaml
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.validation import validate_schema
from jsonschema import Draft202012Validator
from rest_framework import serializers
from rest_framework.test import APIClient

from api.forms import EventsQuery, JobQuery, ListQuery, ResolutionForm
from api.json_schema import FormSchema
from api.openapi import FILE, document
from api.problem_catalogue import PROBLEMS, Key
from api.submission_form import SubmissionForm
from idempotency.request_headers import MAX_KEY_LENGTH, MAX_TTL_SECONDS, MIN_TTL_SECONDS
from jobs.models import JobStep, Priority
from jobs.operations import ARTIFACT_NAME
from jobs.registry import operations
from jobs.states import State
from tests.support.client import CHARGE, accepted, charge, post, problem
from tests.support.factories import TenantFactory, new_api_key

ADMIN = ("/admin", "/admin/")
# The forms that check query strings; every other operation has no query parameter.
QUERIES = {
    ("GET", "/v1/jobs"): ListQuery,
    ("GET", "/v1/jobs/{job_id}"): JobQuery,
    ("GET", "/v1/jobs/{job_id}/events"): EventsQuery,
}


@pytest.fixture
def anyone():
    return APIClient(raise_request_exception=False, enforce_csrf_checks=True)


def described_operations():
    """Return the method and path of every operation in the document."""
    return {(method.upper(), path) for path, item in document()["paths"].items() for method in item}


def routes(patterns=None, prefix="/"):
    """Return the method and path of every route that Django serves, except those of the admin."""
    found = set()
    for one in get_resolver().url_patterns if patterns is None else patterns:
        path = prefix + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(one.pattern))
        if path in ADMIN:
            continue
        if isinstance(one, URLResolver):
            found |= routes(one.url_patterns, path)
        elif isinstance(one, URLPattern):
            view = getattr(one.callback, "cls", None)
            methods = view().allowed_methods if view else ["GET"]
            found |= {(method, path) for method in methods if method not in ("HEAD", "OPTIONS")}
    return found


def nodes(tree, *, place=()):
    """Yield every object in the tree with its path."""
    if isinstance(tree, dict):
        yield place, tree
    for name, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(branch, dict | list):
            yield from nodes(branch, place=(*place, name))


def at(reference):
    found = document()
    for name in reference.removeprefix("#/").split("/"):
        found = found[name.replace("~1", "/")]
    return found


def resolved(node):
    """Return the node without references and descriptions."""
    if isinstance(node, list):
        return [resolved(one) for one in node]
    if not isinstance(node, dict):
        return node
    if "JsonValue" in node.get("$ref", ""):  # it refers to itself
        return {"$ref": "JsonValue"}
    whole = {**(at(node["$ref"]) if "$ref" in node else {}), **node}
    return {name: resolved(one) for name, one in whole.items() if name not in ("$ref", "description")}


def schema_of(form):
    """Return the schema of a form's members, from the form."""
    schema = FormSchema().standalone(form, "request")
    return {name: resolved(schema.get(name, {})) for name in ("properties", "required")}


def in_file():
    """Return the file as written, without the parts that are generated."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def validation_errors(value, schema):
    """Return the validation errors of the value against a schema of the document."""
    whole = {**schema, "components": document()["components"]}
    checker = Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [error.message for error in checker.iter_errors(value)]


def check(response, method, path):
    """Check the status, media type, body and headers of the response against the document, and return the response."""
    expected = document()["paths"][path][method.lower()]["responses"][str(response.status_code)]
    expected = at(expected["$ref"]) if "$ref" in expected else expected
    media = response.get("Content-Type", "").partition(";")[0]
    if media == "text/html":
        assert media in expected["content"]
    elif "content" in expected:
        assert validation_errors(json.loads(response.content), expected["content"][media]["schema"]) == []
    else:
        assert response.content == b""
    # Headers of HTTP itself and of Django's security middleware are not described.
    plain = {"content-type", "content-length", "vary", "allow", "x-frame-options", "x-content-type-options"}
    plain |= {"referrer-policy", "cross-origin-opener-policy"}
    assert {name.lower() for name in response.headers} - plain <= {name.lower() for name in expected["headers"]}
    for name, reference in expected["headers"].items():
        header = at(reference["$ref"])
        assert response.has_header(name) or not header.get("required"), name
        if response.has_header(name):
            kind = header["schema"]["type"]
            value = int(response[name]) if kind == "integer" else response[name]
            assert validation_errors(value, header["schema"]) == []
    return response


# --- The document -----------------------------------------------------------------------------------------------------


def test_the_document_is_valid_openapi_3_1():
    validate_schema(document())
    assert document()["openapi"].startswith("3.1")
    for schema in document()["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_drf_spectacular_warns_about_no_field_of_a_form():
    GENERATOR_STATS.reset()
    for (name, _), operation in operations().items():
        if not name.startswith("test."):
            FormSchema().standalone(operation.params, "request")
    assert not GENERATOR_STATS


def test_every_placeholder_of_the_file_is_filled():
    assert [place for place, node in nodes(document()) if any(name.startswith("x-") for name in node)] == []


def test_the_document_describes_exactly_the_existing_routes():
    assert described_operations() == routes()
    written = {(method.upper(), path) for path, item in in_file()["paths"].items() for method in item}
    assert written == routes()


def test_every_problem_that_the_file_names_is_in_the_catalogue():
    for path, item in in_file()["paths"].items():
        for method, operation in item.items():
            slugs = re.findall(r"[\w-]+", json.dumps(operation["x-problems"]))
            assert set(slugs) <= {slug for slug, one in PROBLEMS.items() if one.status}, (method, path)
            assert len(slugs) == len(set(slugs)), (method, path)
    assert set(in_file()["x-problem-headers"]) <= set(PROBLEMS)


def test_every_problem_of_the_catalogue_is_an_example_of_some_response():
    description = document()
    examples = {
        reference.rsplit("/", 1)[1]
        for _, node in nodes({"paths": description["paths"], "responses": description["components"]["responses"]})
        if (reference := node.get("$ref", "")).startswith("#/components/examples/")
    }
    assert examples == {slug for slug, one in PROBLEMS.items() if one.status}
    assert set(description["components"]["schemas"]["JobError"]["properties"]["code"]["enum"]) == {
        slug for slug, one in PROBLEMS.items() if not one.status
    }


def test_every_reference_resolves_and_every_component_is_used():
    references = {node["$ref"] for _, node in nodes(document()) if "$ref" in node}
    assert all(at(reference) for reference in references)
    kinds = document()["components"]
    every = {f"#/components/{kind}/{name}" for kind, named in kinds.items() for name in named}
    unused = every - references - {"#/components/securitySchemes/apiKey"}
    assert unused == {"#/components/responses/method-not-allowed"}


def test_every_example_fits_its_schema():
    checked = 0
    for place, node in nodes(document()):
        if "examples" in node and "schema" in node:
            for name, example in node["examples"].items():
                value = at(example["$ref"])["value"] if "$ref" in example else example["value"]
                assert validation_errors(value, node["schema"]) == [], (place, name)
                checked += 1
    for _, node in nodes(document()):
        if "in" in node and "example" in node:
            assert validation_errors(node["example"], node["schema"]) == [], node["name"]
    assert checked > 100


def test_the_example_of_a_stream_consists_of_valid_events():
    responses = document()["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]
    [example] = responses["200"]["content"]["text/event-stream"]["schema"]["examples"]
    first, *events = [part for part in example.split("\n\n") if part.strip(":\n")]
    assert re.fullmatch(r"retry: \d+", first)
    for number, event in enumerate(events, 1):
        fields = dict(row.split(": ", 1) for row in event.split("\n") if row != ":")
        data = json.loads(fields["data"])
        assert validation_errors(data, {"$ref": "#/components/schemas/Event"}) == []
        assert (fields["id"], fields["event"]) == (str(number), data["type"])


def test_every_operation_has_a_unique_id_a_summary_and_a_description():
    listed = [operation for item in document()["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in listed}) == len(listed)
    assert all(operation["summary"] and operation["description"] for operation in listed)


def test_the_body_of_each_operation_has_its_own_schema_without_unknown_members():
    body = document()["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["discriminator"]["mapping"]) == {name for name, _ in operations()}
    assert validation_errors(CHARGE, body) == []
    for wrong in ({**CHARGE, "x": 1}, charge(x=1), charge(amount=0), charge(currency="USD"), {"params": {}}):
        assert validation_errors(wrong, body) != []


# --- Agreement with the code ------------------------------------------------------------------------------------------


def test_query_parameters_agree_with_the_forms():
    for method, path in described_operations():
        parameters = document()["paths"][path][method.lower()]["parameters"]
        query = {one["name"]: resolved(one["schema"]) for one in map(resolved, parameters) if one["in"] == "query"}
        form = QUERIES.get((method, path))
        assert query == (schema_of(form)["properties"] if form else {}), path


@pytest.mark.parametrize(("name", "form"), [("Submission", SubmissionForm), ("ResolutionForm", ResolutionForm)])
def test_bodies_agree_with_the_forms(name, form):
    written = resolved(in_file()["components"]["schemas"][name])
    expected = json.loads(json.dumps(schema_of(form)).replace("#/$defs/", ""))
    assert written["additionalProperties"] is False
    assert written["properties"] == expected["properties"]
    assert sorted(written["required"]) == sorted(expected["required"])


def test_enums_agree_with_the_code():
    schemas = document()["components"]["schemas"]
    key = schemas["ProblemExplanation"]["properties"]["key"]["properties"]["use"]
    assert schemas["State"]["enum"] == list(State)
    assert schemas["IdempotencyKey"]["properties"]["resource_state"]["enum"] == [*State, None]
    assert schemas["Priority"]["enum"] == [priority.name.lower() for priority in Priority]
    assert schemas["Effect"]["properties"]["state"]["enum"] == list(JobStep.State)
    assert key["enum"] == list(Key)
    for codes in (schemas["ProblemExplanation"]["properties"]["code"], at("#/components/parameters/slug/schema")):
        assert codes["enum"] == list(PROBLEMS)
    assert schemas["Problem"]["properties"]["code"]["enum"] == [slug for slug, one in PROBLEMS.items() if one.status]


def test_limits_agree_with_the_code():
    parameters = document()["components"]["parameters"]
    for name in ("Idempotency-Key", "Idempotency-Key-Optional"):
        schema = parameters[name]["schema"]
        assert schema["maxLength"] == 2 * MAX_KEY_LENGTH + 2
        assert schema["pattern"].count(f"{{1,{MAX_KEY_LENGTH}}}") == 2
        assert validation_errors("x" * MAX_KEY_LENGTH, schema) == []
        assert validation_errors("x" * (MAX_KEY_LENGTH + 1), schema) != []
    ttl = parameters["Idempotency-TTL"]["schema"]
    assert (ttl["minimum"], ttl["maximum"]) == (MIN_TTL_SECONDS, MAX_TTL_SECONDS)
    download = document()["paths"]["/v1/jobs/{job_id}/artifacts/{name}"]["get"]
    [pattern] = [one["schema"]["pattern"] for one in download["parameters"] if one.get("name") == "name"]
    assert pattern == f"^{ARTIFACT_NAME.pattern}$"


def test_the_server_of_the_document_is_the_public_base_url(settings):
    assert document()["servers"] == [{"url": "/"}]
    settings.PUBLIC_BASE_URL = "https://semel.example"
    assert document.__wrapped__()["servers"] == [{"url": "https://semel.example"}]


def test_a_reused_key_has_the_configured_status(settings):
    settings.IDEMPOTENCY_MISMATCH_STATUS = 422
    responses = document.__wrapped__()["paths"]["/v1/jobs"]["post"]["responses"]
    assert "idempotency-key-reused" not in responses["409"]["content"]["application/problem+json"]["examples"]
    assert list(responses["422"]["content"]["application/problem+json"]["examples"]) == ["idempotency-key-reused"]


class Item(serializers.Serializer):
    sku = serializers.CharField()


class Order(serializers.Serializer):
    items = Item(many=True)


def test_forms_within_forms_become_components(monkeypatch):
    monkeypatch.setattr("operations.payments.refund.RefundPayment.params", Order)
    schemas = document.__wrapped__()["components"]["schemas"]
    assert schemas["PaymentsRefund"]["properties"]["params"] == {"$ref": "#/components/schemas/Order"}
    assert schemas["Order"]["properties"]["items"]["items"] == {"$ref": "#/components/schemas/Item"}
    assert schemas["Item"]["required"] == ["sku"]


def test_two_forms_with_the_same_name_are_refused(monkeypatch):
    other = type("ChargeParams", (JobQuery,), {})
    monkeypatch.setattr("operations.payments.refund.RefundPayment.params", other)
    with pytest.raises(ValueError, match="Two different schemas are named 'ChargeParams'"):
        document.__wrapped__()


def test_exactly_the_routes_that_need_an_api_key_are_described_so(anyone, db):
    for method, path in described_operations():
        is_public = document()["paths"][path][method.lower()]["security"] == []
        address = re.sub(r"{job_id}", "0199f3a4-7a3c-7000-8000-000000000000", path)
        address = address.replace("{key}", "a-key").replace("{slug}", "not-found").replace("{name}", "a.csv")
        response = anyone.generic(method, address)
        assert (response.status_code != HTTPStatus.UNAUTHORIZED) is is_public, path


# --- Agreement with responses -----------------------------------------------------------------------------------------


def test_a_job_has_exactly_the_described_members(api):
    job = accepted(check(post(api), "POST", "/v1/jobs"))
    schema = document()["components"]["schemas"]["Job"]
    assert set(job) == set(schema["properties"]) == set(schema["required"])


def test_responses_agree_with_the_document(api, anyone):
    job = accepted(check(post(api), "POST", "/v1/jobs"))
    check(post(api), "POST", "/v1/jobs")  # replayed
    for body, key in ((charge(amount=1), "a-key"), (charge(amount="x"), "new"), (b"{", "new")):
        check(post(api, body, key=key), "POST", "/v1/jobs")
    check(post(api, key=None), "POST", "/v1/jobs")
    check(post(api, CHARGE, key="new", content_type="text/plain"), "POST", "/v1/jobs")
    check(post(api, b" " * 300_000, key="new"), "POST", "/v1/jobs")
    first = check(api.get(job["links"]["self"]), "GET", "/v1/jobs/{job_id}")
    unchanged = api.get(job["links"]["self"], headers={"If-None-Match": first["ETag"]})
    assert check(unchanged, "GET", "/v1/jobs/{job_id}").status_code == HTTPStatus.NOT_MODIFIED
    check(api.get(job["links"]["events"]), "GET", "/v1/jobs/{job_id}/events")
    check(api.get("/v1/operations"), "GET", "/v1/operations")
    check(api.get("/v1/idempotency-keys/a-key"), "GET", "/v1/idempotency-keys/{key}")
    check(api.get("/v1/idempotency-keys/free"), "GET", "/v1/idempotency-keys/{key}")
    accepted(post(api, key="another"))
    assert check(api.get("/v1/jobs?limit=1"), "GET", "/v1/jobs").has_header("Link")
    check(api.get("/v1/jobs?limit=x"), "GET", "/v1/jobs")
    check(api.get("/v1/jobs", headers={"Accept": "text/html"}), "GET", "/v1/jobs")
    check(anyone.get("/v1/jobs"), "GET", "/v1/jobs")
    for verb in ("cancel", "redrive", "redrive", "resolve"):
        path = f"{job['links']['self']}/{verb}"
        check(post(api, b"", path=path, key=None), "POST", f"/v1/jobs/{{job_id}}/{verb}")
        check(post(api, b"", path=path, key=verb), "POST", f"/v1/jobs/{{job_id}}/{verb}")
    for path in ("/.well-known/idempotency", "/livez", "/readyz", "/schema"):
        check(anyone.get(path), "GET", path)
    check(anyone.get("/schema?format=xml"), "GET", "/schema")
    check(anyone.get("/docs"), "GET", "/docs")
    for accept in ("*/*", "text/html"):
        check(anyone.get("/problems/not-found", headers={"Accept": accept}), "GET", "/problems/{slug}")
    check(anyone.get("/livez", headers={"X-Long": "x" * 40_000}), "GET", "/livez")


def test_responses_to_an_operator_agree_with_the_document(db):
    tenant = TenantFactory()
    operator = APIClient(raise_request_exception=False)
    operator.credentials(HTTP_AUTHORIZATION=f"Bearer {new_api_key(tenant, is_admin=True)}")
    job = accepted(post(operator))
    path = f"{job['links']['self']}/resolve"
    body = {"step": "charge", "verdict": "done", "then": "succeed", "note": "seen"}
    assert check(post(operator, body, path=path), "POST", "/v1/jobs/{job_id}/resolve").status_code == 409
    assert check(post(operator, {}, path=path, key="b"), "POST", "/v1/jobs/{job_id}/resolve").status_code == 400


# --- The two pages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "accept", "media_type"),
    [
        ("", "*/*", "application/json"),
        ("", "", "application/json"),
        ("", "text/html,*/*;q=0.8", "application/json"),
        ("", "image/png", "application/json"),
        ("", "application/vnd.oai.openapi+json", "application/json"),
        ("", "application/yaml", "application/yaml"),
        ("", "application/vnd.oai.openapi", "application/yaml"),
        ("?format=json", "application/yaml", "application/json"),
        ("?format=yaml", "application/json", "application/yaml"),
    ],
)
def test_the_document_is_served_as_json_or_yaml(anyone, query, accept, media_type):
    response = anyone.get(f"/schema{query}", headers={"Accept": accept})
    assert (response.status_code, response["Content-Type"], response["Vary"]) == (200, media_type, "Accept")
    read = json.loads if media_type.endswith("json") else yaml.safe_load
    assert read(response.content) == document()


def test_an_unknown_format_is_refused(anyone):
    refused = problem(anyone.get("/schema?format=xml"), 400, "validation-failed")
    assert [error["parameter"] for error in refused["errors"]] == ["format"]


def test_the_pages_refuse_post(anyone):
    for path in ("/schema", "/docs"):
        problem(anyone.post(path), 405, "method-not-allowed")


def test_the_page_names_no_other_host_and_its_policy_allows_none(anyone):
    response = anyone.get("/docs")
    assert (response.status_code, response["Content-Type"]) == (200, "text/html; charset=utf-8")
    page = response.content.decode()
    assert "//" not in page
    assert not re.search(r"<script(?! src=)|<style|\son\w+=", page), "a strict policy would block it"
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in policy
    assert "*" not in policy


def test_the_files_of_the_page_are_served_by_this_host(anyone):
    page = anyone.get("/docs").content.decode()
    files = [path for path in re.findall(r'(?:src|href)="([^"]+)"', page) if path != "data:,"]
    assert len(files) == 3
    for path in files:
        response = anyone.get(path)
        assert response.status_code == 200, path
        kind = "text/css" if path.endswith("css") else "text/javascript"
        assert response["Content-Type"].startswith(kind)
        assert response.getvalue()
    [schema] = re.findall(r'data-schema="([^"]+)"', page)
    assert anyone.get(schema)["Content-Type"] == "application/json"
    script = anyone.get(next(path for path in files if path.endswith("docs.js"))).getvalue().decode()
    assert "validatorUrl: null" in script
