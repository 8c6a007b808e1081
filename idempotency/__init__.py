"""Idempotency keys for Django REST framework and PostgreSQL: one logical request is accepted once.

The package imports only `foundation`, so that another project can install it. How to: docs/how-to/idempotency.md.
"""
