"""Django's backend for PostgreSQL, for which the client has a deadline too."""
