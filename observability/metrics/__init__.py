"""Metrics for Prometheus: processes count what happens; database and broker are queried at each scrape."""
