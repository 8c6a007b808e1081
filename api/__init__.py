"""The HTTP API under /v1: views, forms, documents, problems, OpenAPI."""
