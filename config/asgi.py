"""The streams process: the same addresses under ASGI, for connections that stay open."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("SEMEL_PROCESS", "streams")

from django.core.asgi import get_asgi_application

_django = get_asgi_application()

# Only now: models can be imported once Django is set up.
from config.streams import StreamsApplication  # noqa: E402

application = StreamsApplication(_django)
