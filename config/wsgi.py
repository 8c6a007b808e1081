"""The api process: plain requests, served by threads."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("SEMEL_PROCESS", "api")

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from api.request_bodies import RequestBodies
from foundation.open_files import allow_connections

allow_connections(settings.API_CONNECTIONS)
application = RequestBodies(get_wsgi_application())
