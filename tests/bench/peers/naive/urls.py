"""One endpoint."""

import hashlib
import json

from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tests.bench.peers.naive.models import IdempotencyKey, Job
from tests.bench.peers.naive.tasks import run

CLIENT = 1


class JobForm(serializers.ModelSerializer[Job]):
    """A request."""

    class Meta:
        model = Job
        fields = ["operation", "params"]


class Jobs(APIView):
    """Accept a job once per key."""

    def post(self, request: Request) -> Response:
        """Save the job and its key together, and send the task when both are committed."""
        form = JobForm(data=request.data)
        form.is_valid(raise_exception=True)
        key = request.headers["Idempotency-Key"]
        fingerprint = hashlib.sha256(json.dumps(request.data, sort_keys=True).encode()).hexdigest()
        try:
            with transaction.atomic():
                job = form.save()
                response = {"id": str(job.id), "status": job.status}
                IdempotencyKey.objects.create(client=CLIENT, key=key, fingerprint=fingerprint, response=response)
                transaction.on_commit(lambda: run.delay(str(job.id)))
        except IntegrityError:
            first = IdempotencyKey.objects.get(client=CLIENT, key=key)
            if first.fingerprint != fingerprint:
                return Response({"detail": "This key was used for another request."}, status=409)
            response = first.response
        return Response(response, status=202)


def ready(_request: HttpRequest) -> HttpResponse:
    """Answer once the process serves."""
    return HttpResponse()


urlpatterns = [path("jobs", Jobs.as_view()), path("ready", ready)]
