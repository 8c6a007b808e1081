"""The job: its states, rules, rows, SQL and services, and the contract of an operation. No HTTP (see api/)."""
