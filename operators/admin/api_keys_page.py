"""API keys in the admin: made once, shown once, revoked."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from django import forms
from django.contrib import admin, messages
from django.db import IntegrityError
from django.http import Http404
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone

from accounts.models import ApiKey, Mode, Tenant
from accounts.services import create_api_key, revoke_api_key
from operators.admin.pages import LookOnly, actor_of, may, page, posted, requires

if TYPE_CHECKING:
    from datetime import datetime

    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern

# Keys on one page; a tenant has a few, and its page shows them all.
_SHOWN = 200
_ID = re.compile(r"[0-9a-f]{16}")


class ApiKeyForm(forms.Form):
    """Whose key, and what it may do. `key_id` is chosen with the form, so that sending it twice makes one key."""

    tenant = forms.ModelChoiceField(Tenant.objects.order_by("name"))
    mode = forms.ChoiceField(choices=Mode.choices)
    is_admin = forms.BooleanField(
        required=False, label="May also resolve unknown outcomes", help_text="For operators' own tools only."
    )
    expires_at = forms.DateTimeField(
        required=False,
        label="Expires (UTC)",
        help_text="Empty: never.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )
    key_id = forms.CharField(widget=forms.HiddenInput)

    def clean_key_id(self) -> str:
        """The id, as this form gave it out."""
        key_id: str = self.cleaned_data["key_id"]
        if not _ID.fullmatch(key_id):
            raise forms.ValidationError("This form was not made here.")
        return key_id

    def clean_expires_at(self) -> datetime | None:
        """An instant to come."""
        expires_at: datetime | None = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise forms.ValidationError("This has passed already.")
        return expires_at


class RevokeForm(forms.Form):
    """Why."""

    note = forms.CharField(
        max_length=2_000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Kept in the audit log, beside your name.",
    )


@requires("accounts.view_apikey")
def show_api_keys(request: HttpRequest) -> HttpResponse:
    """The newest API keys, never their secrets."""
    keys = ApiKey.objects.defer("secret_sha256").select_related("tenant").order_by("-created_at")[:_SHOWN]
    return page(
        request,
        "api_keys.html",
        title="API keys",
        keys=keys,
        shown=_SHOWN,
        may_add_key=may(request, "accounts.add_apikey"),
        may_revoke=may(request, "accounts.change_apikey"),
    )


@requires("accounts.add_apikey")
def add_api_key(request: HttpRequest) -> HttpResponse:
    """GET asks; POST makes the key and answers with its secret: in this one page, and nowhere else.

    No redirect, session, message or cookie could carry it without keeping it. Sent again, the form finds its key made.
    """
    first = {"tenant": request.GET.get("tenant"), "key_id": secrets.token_hex(8)}
    form = ApiKeyForm(posted(request), initial=first)
    if form.is_valid():
        try:
            credential = create_api_key(**form.cleaned_data, actor=actor_of(request))
        except IntegrityError:
            form.add_error(
                None, "This form was sent before, and its key is made. Its secret cannot be shown again."
            )
        else:
            said = {
                "credential": str(credential),
                "tenant": form.cleaned_data["tenant"],
                "mode": credential.mode,
            }
            return page(request, "api_key_created.html", title="The API key, this once", **said)
    return page(request, "form.html", title="New API key", form=form, label="Create API key")


@requires("accounts.change_apikey")
def revoke(request: HttpRequest, key_id: str) -> HttpResponse:
    """GET asks; POST ends the key from the next request on, audited. Done twice, it changes nothing."""
    key = ApiKey.objects.defer("secret_sha256").filter(pk=key_id).select_related("tenant").first()
    if key is None:
        raise Http404("There is no such API key.")
    form = RevokeForm(posted(request))
    if form.is_valid():
        revoked = revoke_api_key(key_id=key_id, actor=actor_of(request), note=form.cleaned_data["note"])
        said = f"{key} is revoked." if revoked else f"{key} was revoked before."
        messages.success(request, said)
        return redirect("admin:accounts_tenant_change", tenant_id=key.tenant_id)
    return page(
        request,
        "form.html",
        title=f"Revoke {key}",
        form=form,
        label="Revoke",
        is_dangerous=True,
        said=f"Every request of {key.tenant} that is made with this key is refused from now on. Jobs go on.",
    )


@admin.register(ApiKey)
class ApiKeyAdmin(LookOnly):
    """API keys. A revoked one stays, so that its requests can be traced."""

    def get_urls(self) -> list[URLPattern]:
        """The pages of API keys, in place of Django's."""
        view = self.admin_site.admin_view
        return [
            path("", view(show_api_keys), name="accounts_apikey_changelist"),
            path("add/", view(add_api_key), name="accounts_apikey_add"),
            path("<slug:key_id>/revoke/", view(revoke), name="accounts_apikey_revoke"),
        ]
