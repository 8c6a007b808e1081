"""The naive peer: Django REST framework, a unique constraint, and `task.delay` on commit.

No credential, lease, fence, retry or sweep. A worker marks the job as running, performs it and marks it as done.
"""

import hashlib
import json
import os
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import uuid4

from django.conf import settings

_DATABASE = urlsplit(os.environ["BENCH_DATABASE_URL"])
if not settings.configured:
    settings.configure(
        SECRET_KEY="bench-only",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="tests.bench.peers.naive",
        USE_TZ=True,
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework"],
        MIDDLEWARE=[],
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [],
            "DEFAULT_PERMISSION_CLASSES": [],
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
            "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
            "UNAUTHENTICATED_USER": None,
        },
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": _DATABASE.path.lstrip("/"),
                "USER": _DATABASE.username,
                "PASSWORD": _DATABASE.password,
                "HOST": _DATABASE.hostname,
                "PORT": _DATABASE.port,
                "CONN_MAX_AGE": None,
            }
        },
    )
    import django

    django.setup()

import celery
from django.core.wsgi import get_wsgi_application
from django.db import IntegrityError, connection, models, transaction
from django.urls import path
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tests.bench.peers.call import call

app = celery.Celery("naive", broker=os.environ["BENCH_REDIS_URL"])
app.conf.update(task_ignore_result=True, task_acks_late=True)


class Job(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid4)
    operation = models.CharField(max_length=100)
    params = models.JSONField()
    state = models.CharField(max_length=10, default="queued")

    class Meta:
        app_label, db_table = "naive", "job"


class Key(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid4)
    tenant = models.BigIntegerField()
    key = models.CharField(max_length=255)
    fingerprint = models.BinaryField()
    answer = models.BinaryField()
    expires_at = models.DateTimeField()

    class Meta:
        app_label, db_table = "naive", "idempotency_key"
        constraints = [models.UniqueConstraint(fields=["tenant", "key"], name="one_per_key")]


class JobForm(serializers.Serializer):
    operation = serializers.CharField()
    params = serializers.JSONField()


@app.task(name="naive.run")
def run(job_id: str) -> None:
    job = Job.objects.get(pk=job_id)
    job.state = "running"
    job.save(update_fields=["state"])
    if job.operation == "bench.call":
        call()
    job.state = "done"
    job.save(update_fields=["state"])


class Jobs(APIView):
    def post(self, request: Request) -> Response:
        form = JobForm(data=request.data)
        form.is_valid(raise_exception=True)
        key = request.headers["Idempotency-Key"]
        fingerprint = hashlib.sha256(json.dumps(request.data, sort_keys=True).encode()).digest()
        try:
            with transaction.atomic():
                job = Job.objects.create(**form.validated_data)
                answer = json.dumps({"id": str(job.id), "state": job.state}).encode()
                Key.objects.create(
                    tenant=1,
                    key=key,
                    fingerprint=fingerprint,
                    answer=answer,
                    expires_at=timezone.now() + timedelta(days=1),
                )
                transaction.on_commit(lambda: run.delay(str(job.id)))
        except IntegrityError:
            answer = bytes(Key.objects.get(tenant=1, key=key).answer)
        return Response(json.loads(answer), status=202)


urlpatterns = [path("v1/jobs", Jobs.as_view())]
application = get_wsgi_application()


def migrate() -> None:
    """Create both tables."""
    with connection.schema_editor() as editor:
        for model in (Job, Key):
            editor.create_model(model)
