"""The composition root: settings, URLs, WSGI, ASGI, the Celery app, system checks and patches of libraries.

No other package imports it.
"""
