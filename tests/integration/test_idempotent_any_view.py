"""`idempotent` around views that do not use JSON, and with limits of their own."""

from __future__ import annotations

import json

import pytest
from django.http import HttpResponse
from rest_framework.parsers import BaseParser, FormParser, MultiPartParser

from idempotency.http import idempotent
from idempotency.models import IdempotencyRecord
from idempotency.response_format import decode_response
from tests.support.idempotent_view import OpenView, code_of, send
from tests.support.row_locks import locked_key
from tests.support.threads import at_once

pytestmark = pytest.mark.django_db(transaction=True)

PICTURE = b"\x89PNG\r\n\x1a\n\x00\xff"


class RawParser(BaseParser):
    media_type = "application/octet-stream"

    def parse(self, stream, media_type=None, parser_context=None):
        return stream.read()


class Uploads(OpenView):
    """Accepts any body; each run returns different bytes."""

    parser_classes = (RawParser, FormParser, MultiPartParser)
    runs = 0

    @idempotent(required=True, wait_seconds=0.2, max_stored_bytes=64)
    def post(self, request):
        type(self).runs += 1
        assert request.data is not None
        size = int(request.query_params.get("size", 0))
        status = int(request.query_params.get("status", 200))
        content = PICTURE + bytes([self.runs]) + b"." * size
        return HttpResponse(content, status=status, content_type="image/png")


@pytest.fixture(autouse=True)
def _uploads(settings, monkeypatch):
    settings.IDEMPOTENCY_SCOPE = "tests.support.idempotent_view.scope_of"
    monkeypatch.setattr(Uploads, "runs", 0)


def upload(body=PICTURE, *, content_type="application/octet-stream", path="/uploads", **meta):
    return send(body, view=Uploads, content_type=content_type, path=path, **meta)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (PICTURE, "application/octet-stream"),
        (b"a=1&b=2", "application/x-www-form-urlencoded"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n', "multipart/form-data; boundary=x"),
        (b"", "application/octet-stream"),
    ],
)  # fmt: skip
def test_a_body_that_is_not_json_is_compared_by_its_bytes(body, content_type):
    first, again = (upload(body, content_type=content_type) for _ in range(2))
    assert first.content == again.content == PICTURE + b"\x01"
    assert again["Content-Type"] == "image/png"
    assert again["Idempotency-Replayed"] == "true"
    other = upload(body + b"\r\n", content_type=content_type)
    assert (code_of(other), Uploads.runs) == ("KeyReused", 1)


def test_the_content_type_is_compared_if_the_body_is_not_json():
    upload(b"a=1", content_type="application/x-www-form-urlencoded")
    assert code_of(upload(b"a=1")) == "KeyReused"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 207, 303])
def test_any_success_is_stored(status):
    first, again = (upload(path=f"/uploads?status={status}") for _ in range(2))
    assert first.status_code == again.status_code == status
    assert (first.content, Uploads.runs) == (again.content, 1)


def test_a_view_can_limit_the_size_of_its_stored_bodies():
    first, again = (upload(path="/uploads?size=64") for _ in range(2))
    assert len(first.content) > 64
    assert (again.content, again["Idempotency-Body-Omitted"]) == (b"", "true")
    assert (again["Content-Type"], Uploads.runs) == ("image/png", 1)
    assert decode_response(bytes(IdempotencyRecord.objects.get().response)).body is None


def test_a_view_can_limit_the_wait_of_a_duplicate(settings):
    settings.IDEMPOTENCY_WAIT_SECONDS = 3600
    with locked_key(scope="owner", key="k"):
        [response] = at_once(upload)
    assert code_of(response) == "RequestInProgress"
    assert json.loads(response.content)["retry_after_seconds"] == 1
