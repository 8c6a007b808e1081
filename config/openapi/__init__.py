"""The OpenAPI 3.1 description: one table of endpoints (`endpoints/`), and how it becomes a document."""
