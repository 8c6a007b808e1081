"""Tenants and their API keys in the admin: lists, new ones, revocation. A new key is shown once."""

import secrets
from datetime import datetime

from django import forms
from django.contrib import messages
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiKey, Mode, Tenant
from accounts.services import create_api_key, create_tenant, revoke_api_key
from operators.admin.list_page import list_page
from operators.admin.page_base import NoteForm, actor_of, form_data, may, render_page

# Keys on one page. A tenant has a few keys, and its own page shows all of them.
_MAX_KEYS = 200


class TenantForm(forms.Form):
    """A new tenant."""

    name = forms.CharField(max_length=100)


def show_tenants(request: HttpRequest) -> HttpResponse:
    """Show a page of tenants, newest first, optionally those whose names start with a text."""
    prefix = request.GET.get("name", "").strip()
    tenants = Tenant.objects.none() if "\x00" in prefix else Tenant.objects.filter(name__startswith=prefix)
    rows, links = list_page(request, tenants)
    may_add = may(request, "accounts.add_tenant")
    return render_page(request, "tenants.html", title="Tenants", tenants=rows, prefix=prefix, may_add=may_add, **links)


def show_tenant(request: HttpRequest, tenant_id: int) -> HttpResponse:
    """Show the tenant and its API keys."""
    tenant = get_object_or_404(Tenant, pk=tenant_id)
    may_view_keys = may(request, "accounts.view_apikey")
    return render_page(
        request,
        "tenant.html",
        title=tenant.name,
        tenant=tenant,
        keys=tenant.api_keys.defer("secret_sha256").order_by("-created_at") if may_view_keys else [],
        may_add_key=may(request, "accounts.add_apikey"),
        may_revoke=may(request, "accounts.change_apikey"),
    )


def add_tenant(request: HttpRequest) -> HttpResponse:
    """GET shows the form. POST creates the tenant, audited; a repeated POST finds the name taken."""
    form = TenantForm(form_data(request))
    if form.is_valid():
        try:
            tenant = create_tenant(name=form.cleaned_data["name"], actor=actor_of(request))
        except IntegrityError:
            form.add_error("name", "A tenant with this name already exists.")
        else:
            messages.success(request, f"Tenant {tenant.name} created. Create an API key next.")
            return redirect("admin:accounts_tenant_change", tenant_id=tenant.id)
    return render_page(request, "form.html", title="New tenant", form=form, label="Create tenant")


class ApiKeyForm(forms.Form):
    """A new key. `key_id` is chosen when the form is shown, so that sending the form twice creates one key."""

    tenant = forms.ModelChoiceField(Tenant.objects.order_by("name"))
    mode = forms.ChoiceField(choices=Mode.choices)
    is_admin = forms.BooleanField(
        required=False, label="May also resolve unknown outcomes", help_text="For operators' own tools only."
    )
    expires_at = forms.DateTimeField(
        required=False,
        label="Expires (UTC)",
        help_text="Leave empty for no expiry.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )
    key_id = forms.RegexField(
        r"^[0-9a-f]{16}\Z", widget=forms.HiddenInput, error_messages={"invalid": "This form is damaged. Open it again."}
    )

    def clean_expires_at(self) -> datetime | None:
        expires_at: datetime | None = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise forms.ValidationError("This time is in the past.")
        return expires_at


def show_api_keys(request: HttpRequest) -> HttpResponse:
    """Show the newest API keys without their secrets."""
    keys = ApiKey.objects.defer("secret_sha256").select_related("tenant").order_by("-created_at")[:_MAX_KEYS]
    return render_page(
        request,
        "api_keys.html",
        title="API keys",
        keys=keys,
        max_shown=_MAX_KEYS,
        may_add_key=may(request, "accounts.add_apikey"),
        may_revoke=may(request, "accounts.change_apikey"),
    )


def add_api_key(request: HttpRequest) -> HttpResponse:
    """GET shows the form. POST creates the key and returns its secret in this one page.

    No redirect, session, message or cookie may carry the secret, because each of them would store it.
    """
    initial = {"tenant": request.GET.get("tenant"), "key_id": secrets.token_hex(8)}
    form = ApiKeyForm(form_data(request), initial=initial)
    if form.is_valid():
        try:
            credential = create_api_key(**form.cleaned_data, actor=actor_of(request))
        except IntegrityError:
            form.add_error(None, "This form was already sent and created its key. The secret is not shown again.")
        else:
            return render_page(
                request,
                "api_key_created.html",
                title="API key created",
                credential=str(credential),
                tenant=form.cleaned_data["tenant"],
                mode=credential.mode,
            )
    return render_page(request, "form.html", title="New API key", form=form, label="Create API key")


def revoke_key(request: HttpRequest, key_id: str) -> HttpResponse:
    """GET shows the form. POST revokes the key, audited; within CREDENTIAL_CACHE_SECONDS every process refuses it."""
    key = get_object_or_404(ApiKey.objects.defer("secret_sha256").select_related("tenant"), pk=key_id)
    form = NoteForm(form_data(request))
    if form.is_valid():
        revoked = revoke_api_key(key_id=key_id, actor=actor_of(request), note=form.cleaned_data["note"])
        messages.success(request, f"{key} is revoked." if revoked else f"{key} was already revoked.")
        return redirect("admin:accounts_tenant_change", tenant_id=key.tenant_id)
    return render_page(
        request,
        "form.html",
        title=f"Revoke {key}",
        form=form,
        label="Revoke",
        is_dangerous=True,
        back=reverse("admin:accounts_tenant_change", args=[key.tenant_id]),
        consequences=f"From now on, requests of tenant {key.tenant} with this key are refused. Its jobs continue.",
    )
