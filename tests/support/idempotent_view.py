"""A DRF view of another project, and functions with which the tests of `idempotency` call it."""

from __future__ import annotations

import json
from uuid import uuid4

from django.db import connection
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView, exception_handler

from idempotency.errors import IdempotencyError
from idempotency.http import idempotent
from idempotency.parsers import ExactJSONParser
from idempotency.records import Created


def scope_of(request):
    return request.META.get("HTTP_X_SCOPE", "owner")


def handle_exception(exc, context):
    if isinstance(exc, IdempotencyError):
        return Response({"code": type(exc).__name__, **vars(exc)}, status=499)
    return exception_handler(exc, context)


class OpenView(APIView):
    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    parser_classes = (ExactJSONParser,)
    renderer_classes = (JSONRenderer,)

    def get_exception_handler(self):
        return handle_exception


class Orders(OpenView):
    """Each run writes one row and answers with a different number."""

    def during(self):
        """Run what a test patches into the middle of the work; a response that it returns is sent."""

    @idempotent(required=True, creates=True)
    def post(self, request, reservation=None, **kwargs):
        place_order()
        response = self.during() or Response(
            {"nonce": uuid4().hex, "amount": request.data.get("amount")},
            status=201,
            headers={"Location": "/orders/1", "Set-Cookie": "session=1", "X-Request-Id": uuid4().hex},
        )
        return Created(response, "order/1")

    put = post
    get = post


class Refusal(APIException):
    def __init__(self, status_code):
        super().__init__("refused")
        self.status_code = status_code


def create_orders_table():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY, placed_at timestamptz)")


def drop_orders_table():
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE orders")


def place_order():
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders (placed_at) VALUES (now())")


def count_orders():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM orders")
        return cursor.fetchone()[0]


def send(body=None, *, key="k", view=Orders, method="POST", path="/orders", content_type="application/json", **meta):
    """Send one request and return its rendered response. A `body` that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps({"amount": 1} if body is None else body).encode()
    if key is not None:
        meta["HTTP_IDEMPOTENCY_KEY"] = key
    request = APIRequestFactory().generic(method, path, data, content_type=content_type, **meta)
    response = view.as_view()(request)
    if not getattr(response, "is_rendered", True):
        response.render()
    return response


def code_of(response):
    """Return the name of the error in the response, None for a success."""
    return json.loads(response.content).get("code") if response.status_code == 499 else None
