"""The streams process: the same addresses under ASGI, for connections that stay open."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("SEMEL_PROCESS", "streams")

from django.core.asgi import get_asgi_application

application = get_asgi_application()
