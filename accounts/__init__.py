"""Tenants, API keys, authentication, rate limits."""
