"""Tenants, API keys, authentication and the audit log."""
