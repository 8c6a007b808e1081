"""All of Semel on one machine: embedded servers, processes, demo and tests. run.py starts this package."""
