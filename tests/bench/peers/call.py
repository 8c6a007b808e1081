"""The 100 ms call that each job of every contestant makes. Standard library only: it also runs in the environment of a peer."""

import http.client
import os


def call() -> int:
    """Make one call over HTTP to the slow server at BENCH_CALL_PORT and return its status."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["BENCH_CALL_PORT"]), timeout=10)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()
