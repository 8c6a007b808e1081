"""The whole of Semel on one machine: embedded servers, processes, demo, tests."""
