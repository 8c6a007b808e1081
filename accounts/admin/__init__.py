"""The admin's pages of accounts, and what every page of the admin is made with."""

from accounts.admin import api_keys, audit, tenants

__all__ = ["api_keys", "audit", "tenants"]
