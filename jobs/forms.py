"""Bind data to a form (a DRF serializer class) without building its fields again."""

from __future__ import annotations

from copy import copy
from functools import cache
from typing import Any

from rest_framework import serializers

Form = type[serializers.Serializer[Any]]


def bind_form(form: Form, data: object) -> serializers.Serializer[Any]:
    """Return the form with this data, as `form(data=data)`.

    DRF copies and binds every field for each serializer, which costs several times the validation. Here all serializers of a
    form share the fields of one, which hold no data.
    """
    bound = copy(_prototype(form))
    bound.initial_data = data
    return bound


@cache
def _prototype(form: Form) -> serializers.Serializer[Any]:
    prototype = form(data=None)
    prototype.fields  # noqa: B018 - builds and binds the fields, and keeps them in the instance
    return prototype
