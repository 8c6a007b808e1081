"""The guarantee: one logical request is accepted once. A leaf: it imports no other package of ours.

In any project on Django REST framework and PostgreSQL: add "idempotency" to INSTALLED_APPS, name a function
`scope_of(request) -> str` in IDEMPOTENCY_SCOPE (whose keys these are), set the other IDEMPOTENCY_* settings
that `manage.py check` asks for, and decorate the method:

    class Orders(APIView):
        parser_classes = [ExactJSONParser]

        @idempotent(required=True)
        def post(self, request: Request) -> Response:
            order = Order.objects.create(amount=request.data["amount"])
            reservation(request).resource = f"order/{order.pk}"
            return Response({"id": order.pk}, status=201)

The order and the stored answer commit together, or not at all. Map `idempotency.errors` to statuses in the
project's exception handler, and call `idempotency.purge.run_once` from time to time.

`idempotency.inbox.consume_once` does the same for messages that others deliver, more than once now and then (webhooks):
call it first in the transaction that acts upon one, set INBOX_RETENTION_SECONDS and call `idempotency.inbox.run_once`.
"""
