"""The naive service: what a Django team would write first, with Django REST framework and Celery."""
