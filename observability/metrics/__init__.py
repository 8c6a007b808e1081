"""Figures for Prometheus: facts that the packages announce are counted here, and what stands in the database is asked for."""
