"""The api app."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """The app `api`: it has no models. It is installed so that Django finds its static files."""

    name = "api"
    verbose_name = "API"
