"""All of Semel on one machine: embedded servers, processes, demo and tests. run.py hands over to it."""
