"""Tenants in the admin: the list, a tenant with its API keys, a new tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.contrib import messages
from django.db import IntegrityError
from django.shortcuts import get_object_or_404, redirect

from accounts.models import Tenant
from accounts.services import create_tenant
from operators.admin.list_page import list_page
from operators.admin.page_base import actor_of, form_data, may, render_page

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


class TenantForm(forms.Form):
    """A new tenant."""

    name = forms.CharField(max_length=100)


def show_tenants(request: HttpRequest) -> HttpResponse:
    """Show a page of tenants, newest first, optionally those whose names start with a text."""
    prefix = request.GET.get("name", "").strip()
    tenants = Tenant.objects.none() if "\x00" in prefix else Tenant.objects.filter(name__startswith=prefix)
    rows, links = list_page(request, tenants)
    may_add = may(request, "accounts.add_tenant")
    return render_page(
        request, "tenants.html", title="Tenants", tenants=rows, prefix=prefix, may_add=may_add, **links
    )


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
