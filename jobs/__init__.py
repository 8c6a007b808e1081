"""The job: its states, transitions, rows, services and HTTP face."""
