"""What the people who look after an installation do and ask, across tenants. Each act is audited in its own transaction."""
