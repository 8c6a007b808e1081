"""Tenants in the admin: the list, a tenant with its API keys, a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.contrib import admin, messages
from django.db import IntegrityError
from django.http import Http404
from django.shortcuts import redirect
from django.urls import path

from accounts.models import Tenant
from accounts.services import create_tenant
from jobs.keyset import page_by_id
from operators.admin import page_links
from operators.admin.pages import ROWS, LookOnly, actor_of, may, page, posted, requires

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse
    from django.urls import URLPattern


class TenantForm(forms.Form):
    """The name, which must be new."""

    name = forms.CharField(max_length=100)


@requires("accounts.view_tenant")
def show_tenants(request: HttpRequest) -> HttpResponse:
    """A page of tenants, newest first; by the beginning of a name where that is given."""
    begins = request.GET.get("name", "").strip()
    tenants = (
        Tenant.objects.filter(name__startswith=begins) if "\x00" not in begins else Tenant.objects.none()
    )
    listed = page_by_id(tenants, limit=ROWS, **page_links.place(request.GET))
    return page(
        request,
        "tenants.html",
        title="Tenants",
        tenants=listed.rows,
        begins=begins,
        may_add=may(request, "accounts.add_tenant"),
        **page_links.around(listed, request.GET),
    )


@requires("accounts.view_tenant")
def show_tenant(request: HttpRequest, tenant_id: int) -> HttpResponse:
    """The tenant and its API keys."""
    tenant = Tenant.objects.filter(pk=tenant_id).first()
    if tenant is None:
        raise Http404("There is no such tenant.")
    keys = (
        tenant.api_keys.defer("secret_sha256").order_by("-created_at")
        if may(request, "accounts.view_apikey")
        else []
    )
    return page(
        request,
        "tenant.html",
        title=tenant.name,
        tenant=tenant,
        keys=keys,
        may_add_key=may(request, "accounts.add_apikey"),
        may_revoke=may(request, "accounts.change_apikey"),
    )


@requires("accounts.add_tenant")
def add_tenant(request: HttpRequest) -> HttpResponse:
    """GET asks for a name; POST makes the tenant, audited. Sent twice, the second finds the name taken."""
    form = TenantForm(posted(request))
    if form.is_valid():
        try:
            tenant = create_tenant(name=form.cleaned_data["name"], actor=actor_of(request))
        except IntegrityError:
            form.add_error("name", "There is a tenant of that name.")
        else:
            messages.success(request, f"The tenant {tenant.name} is there. It needs an API key next.")
            return redirect("admin:accounts_tenant_change", tenant_id=tenant.id)
    return page(request, "form.html", title="New tenant", form=form, label="Create tenant")


@admin.register(Tenant)
class TenantAdmin(LookOnly):
    """Tenants. Nobody renames or deletes one: its jobs and keys would be orphans."""

    def get_urls(self) -> list[URLPattern]:
        """The pages of tenants, in place of Django's."""
        view = self.admin_site.admin_view
        return [
            path("", view(show_tenants), name="accounts_tenant_changelist"),
            path("add/", view(add_tenant), name="accounts_tenant_add"),
            path("<int:tenant_id>/", view(show_tenant), name="accounts_tenant_change"),
        ]
