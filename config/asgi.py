"""The streams process: the same addresses under ASGI, for connections that stay open."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("SEMEL_PROCESS", "streams")

import django
from django.conf import settings

from foundation.open_files import allow_connections

django.setup(set_prefix=False)

# Only now: models can be imported once Django is set up.
from streams.lifespan import StreamsApplication  # noqa: E402
from streams.request_bodies import BoundedBodyHandler  # noqa: E402

allow_connections(settings.STREAMS_MAX_WAITS)
application = StreamsApplication(BoundedBodyHandler())
