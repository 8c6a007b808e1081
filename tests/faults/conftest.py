"""Fixtures of the tests that start real processes."""

from __future__ import annotations

import pytest

from tests.factories import TenantFactory, new_api_key


@pytest.fixture
def api_key(transactional_db):
    """A key of a tenant that the stack's processes see."""
    return new_api_key(TenantFactory())
