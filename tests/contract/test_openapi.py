"""`/schema` and `/docs`: the document is valid, complete and true, and the page loads nothing from other hosts."""

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
from api.submission import SubmissionForm
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


def described():
    """Every method of every address that the document describes."""
    return {(method.upper(), path) for path, item in document()["paths"].items() for method in item}


def existing(patterns=None, prefix="/"):
    """Every method of every address that Django answers, but for the admin's."""
    found = set()
    for one in get_resolver().url_patterns if patterns is None else patterns:
        path = prefix + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(one.pattern))
        if path in ADMIN:
            continue
        if isinstance(one, URLResolver):
            found |= existing(one.url_patterns, path)
        elif isinstance(one, URLPattern):
            view = getattr(one.callback, "cls", None)
            methods = view().allowed_methods if view else ["GET"]
            found |= {(method, path) for method in methods if method not in ("HEAD", "OPTIONS")}
    return found


def nodes(tree, *, place=()):
    """Every object within, with where it stands."""
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
    """Return the file as it is written, without what is filled in."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def complaints(value, schema):
    """What is wrong with the value, by a schema of the document."""
    whole = {**schema, "components": document()["components"]}
    checker = Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [error.message for error in checker.iter_errors(value)]


def check(answer, method, path):
    """The answer is one that is described: its status, type, body and each of its headers."""
    told = document()["paths"][path][method.lower()]["responses"][str(answer.status_code)]
    told = at(told["$ref"]) if "$ref" in told else told
    media = answer.get("Content-Type", "").partition(";")[0]
    if media == "text/html":
        assert media in told["content"]
    elif "content" in told:
        assert complaints(json.loads(answer.content), told["content"][media]["schema"]) == []
    else:
        assert answer.content == b""
    # Of HTTP itself, or of the middleware for browsers.
    plain = {"content-type", "content-length", "vary", "allow", "x-frame-options", "x-content-type-options"}
    plain |= {"referrer-policy", "cross-origin-opener-policy"}
    assert {name.lower() for name in answer.headers} - plain <= {name.lower() for name in told["headers"]}
    for name, header in told["headers"].items():
        said = at(header["$ref"])
        assert answer.has_header(name) or not said.get("required"), name
        if answer.has_header(name):
            kind = said["schema"]["type"]
            value = int(answer[name]) if kind == "integer" else answer[name]
            assert complaints(value, said["schema"]) == []
    return answer


# --- The document ------------------------------------------------------------------------------------------------------


def test_it_is_openapi_3_1():
    validate_schema(document())
    assert document()["openapi"].startswith("3.1")
    for schema in document()["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_drf_spectacular_guesses_no_field_of_a_form():
    GENERATOR_STATS.reset()
    for (name, _), operation in operations().items():
        if not name.startswith("test."):
            FormSchema().standalone(operation.params, "request")
    assert not GENERATOR_STATS


def test_nothing_of_the_file_is_left_unfilled():
    assert [place for place, node in nodes(document()) if any(name.startswith("x-") for name in node)] == []


def test_what_exists_is_described_and_what_is_described_exists():
    assert described() == existing()
    written = {(method.upper(), path) for path, item in in_file()["paths"].items() for method in item}
    assert written == existing()


def test_every_problem_that_the_file_names_is_in_the_catalogue():
    for path, item in in_file()["paths"].items():
        for method, operation in item.items():
            slugs = re.findall(r"[\w-]+", json.dumps(operation["x-problems"]))
            assert set(slugs) <= {slug for slug, one in PROBLEMS.items() if one.status}, (method, path)
            assert len(slugs) == len(set(slugs)), (method, path)
    assert set(in_file()["x-problem-headers"]) <= set(PROBLEMS)


def test_every_problem_of_the_catalogue_can_be_answered_somewhere():
    told = document()
    examples = {
        reference.rsplit("/", 1)[1]
        for _, node in nodes({"paths": told["paths"], "responses": told["components"]["responses"]})
        if (reference := node.get("$ref", "")).startswith("#/components/examples/")
    }
    assert examples == {slug for slug, one in PROBLEMS.items() if one.status}
    assert set(told["components"]["schemas"]["JobError"]["properties"]["code"]["enum"]) == {
        slug for slug, one in PROBLEMS.items() if not one.status
    }


def test_every_reference_leads_somewhere_and_every_component_is_referred_to():
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
                assert complaints(value, node["schema"]) == [], (place, name)
                checked += 1
    for _, node in nodes(document()):
        if "in" in node and "example" in node:
            assert complaints(node["example"], node["schema"]) == [], node["name"]
    assert checked > 100


def test_the_example_of_a_stream_is_what_a_stream_is():
    answers = document()["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]
    [example] = answers["200"]["content"]["text/event-stream"]["schema"]["examples"]
    first, *events = [part for part in example.split("\n\n") if part.strip(":\n")]
    assert re.fullmatch(r"retry: \d+", first)
    for number, event in enumerate(events, 1):
        fields = dict(line.split(": ", 1) for line in event.split("\n") if line != ":")
        data = json.loads(fields["data"])
        assert complaints(data, {"$ref": "#/components/schemas/Event"}) == []
        assert (fields["id"], fields["event"]) == (str(number), data["type"])


def test_every_operation_has_a_name_of_its_own_and_a_summary():
    told = [operation for item in document()["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in told}) == len(told)
    assert all(operation["summary"] and operation["description"] for operation in told)


def test_every_operation_offers_a_form_of_its_own_that_takes_no_other_member():
    body = document()["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["discriminator"]["mapping"]) == {name for name, _ in operations()}
    assert complaints(CHARGE, body) == []
    for wrong in ({**CHARGE, "x": 1}, charge(x=1), charge(amount=0), charge(currency="USD"), {"params": {}}):
        assert complaints(wrong, body) != []


# --- True of the code --------------------------------------------------------------------------------------------------


def test_query_parameters_are_those_of_the_forms():
    for method, path in described():
        told = document()["paths"][path][method.lower()]["parameters"]
        query = {one["name"]: resolved(one["schema"]) for one in map(resolved, told) if one["in"] == "query"}
        form = QUERIES.get((method, path))
        assert query == (schema_of(form)["properties"] if form else {}), path


@pytest.mark.parametrize(("name", "form"), [("Submission", SubmissionForm), ("ResolutionForm", ResolutionForm)])
def test_bodies_are_those_of_the_forms(name, form):
    written = resolved(in_file()["components"]["schemas"][name])
    expected = json.loads(json.dumps(schema_of(form)).replace("#/$defs/", ""))
    assert written["additionalProperties"] is False
    assert written["properties"] == expected["properties"]
    assert sorted(written["required"]) == sorted(expected["required"])


def test_enums_are_those_of_the_code():
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


def test_limits_are_those_of_the_code():
    told = document()["components"]["parameters"]
    for name in ("Idempotency-Key", "Idempotency-Key-Optional"):
        schema = told[name]["schema"]
        assert schema["maxLength"] == 2 * MAX_KEY_LENGTH + 2
        assert schema["pattern"].count(f"{{1,{MAX_KEY_LENGTH}}}") == 2
        assert complaints("x" * MAX_KEY_LENGTH, schema) == []
        assert complaints("x" * (MAX_KEY_LENGTH + 1), schema) != []
    ttl = told["Idempotency-TTL"]["schema"]
    assert (ttl["minimum"], ttl["maximum"]) == (MIN_TTL_SECONDS, MAX_TTL_SECONDS)
    download = document()["paths"]["/v1/jobs/{job_id}/artifacts/{name}"]["get"]
    [pattern] = [one["schema"]["pattern"] for one in download["parameters"] if one.get("name") == "name"]
    assert pattern == f"^{ARTIFACT_NAME.pattern}$"


def test_the_server_is_the_public_address(settings):
    assert document()["servers"] == [{"url": "/"}]
    settings.PUBLIC_BASE_URL = "https://semel.example"
    assert document.__wrapped__()["servers"] == [{"url": "https://semel.example"}]


def test_a_reused_key_has_the_configured_status(settings):
    settings.IDEMPOTENCY_MISMATCH_STATUS = 422
    answers = document.__wrapped__()["paths"]["/v1/jobs"]["post"]["responses"]
    assert "idempotency-key-reused" not in answers["409"]["content"]["application/problem+json"]["examples"]
    assert list(answers["422"]["content"]["application/problem+json"]["examples"]) == ["idempotency-key-reused"]


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


def test_two_forms_of_one_name_are_refused(monkeypatch):
    other = type("ChargeParams", (JobQuery,), {})
    monkeypatch.setattr("operations.payments.refund.RefundPayment.params", other)
    with pytest.raises(ValueError, match="Two different schemas are named 'ChargeParams'"):
        document.__wrapped__()


def test_only_what_needs_an_api_key_says_so(anyone, db):
    for method, path in described():
        is_public = document()["paths"][path][method.lower()]["security"] == []
        address = re.sub(r"{job_id}", "0199f3a4-7a3c-7000-8000-000000000000", path)
        address = address.replace("{key}", "a-key").replace("{slug}", "not-found").replace("{name}", "a.csv")
        answer = anyone.generic(method, address)
        assert (answer.status_code != HTTPStatus.UNAUTHORIZED) is is_public, path


# --- True of what is answered ------------------------------------------------------------------------------------------


def test_a_job_has_the_members_that_are_described(api):
    job = accepted(check(post(api), "POST", "/v1/jobs"))
    schema = document()["components"]["schemas"]["Job"]
    assert set(job) == set(schema["properties"]) == set(schema["required"])


def test_answers_are_as_described(api, anyone):
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


def test_an_operator_is_answered_as_described(db):
    tenant = TenantFactory()
    operator = APIClient(raise_request_exception=False)
    operator.credentials(HTTP_AUTHORIZATION=f"Bearer {new_api_key(tenant, is_admin=True)}")
    job = accepted(post(operator))
    path = f"{job['links']['self']}/resolve"
    body = {"step": "charge", "verdict": "done", "then": "succeed", "note": "seen"}
    assert check(post(operator, body, path=path), "POST", "/v1/jobs/{job_id}/resolve").status_code == 409
    assert check(post(operator, {}, path=path, key="b"), "POST", "/v1/jobs/{job_id}/resolve").status_code == 400


# --- The two addresses -------------------------------------------------------------------------------------------------


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
def test_the_description_comes_as_json_or_yaml(anyone, query, accept, media_type):
    answer = anyone.get(f"/schema{query}", headers={"Accept": accept})
    assert (answer.status_code, answer["Content-Type"], answer["Vary"]) == (200, media_type, "Accept")
    read = json.loads if media_type.endswith("json") else yaml.safe_load
    assert read(answer.content) == document()


def test_a_form_that_there_is_not_is_refused(anyone):
    refused = problem(anyone.get("/schema?format=xml"), 400, "validation-failed")
    assert [error["parameter"] for error in refused["errors"]] == ["format"]


def test_the_pages_are_for_reading(anyone):
    for path in ("/schema", "/docs"):
        problem(anyone.post(path), 405, "method-not-allowed")


def test_the_page_names_no_other_host_and_may_load_from_none(anyone):
    answer = anyone.get("/docs")
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/html; charset=utf-8")
    page = answer.content.decode()
    assert "//" not in page
    assert not re.search(r"<script(?! src=)|<style|\son\w+=", page), "a strict policy would block it"
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in policy
    assert "*" not in policy


def test_what_the_page_loads_is_served_from_here(anyone):
    page = anyone.get("/docs").content.decode()
    files = [path for path in re.findall(r'(?:src|href)="([^"]+)"', page) if path != "data:,"]
    assert len(files) == 3
    for path in files:
        answer = anyone.get(path)
        assert answer.status_code == 200, path
        kind = "text/css" if path.endswith("css") else "text/javascript"
        assert answer["Content-Type"].startswith(kind)
        assert answer.getvalue()
    [schema] = re.findall(r'data-schema="([^"]+)"', page)
    assert anyone.get(schema)["Content-Type"] == "application/json"
    script = anyone.get(next(path for path in files if path.endswith("docs.js"))).getvalue().decode()
    assert "validatorUrl: null" in script
