"""Waiting: `?wait=` and event streams, thousands at once in one process, with no thread and no connection held by any."""
