"""The admin's pages: address, URL name, required permission, view. Add a page here.

A page without a model also goes into `_PAGES` of operators/admin_site.py.

A page changes a job through a service, never through a form over its columns.
"""

from django.contrib import admin

from accounts.models import ApiKey, AuditEntry, Tenant
from idempotency.models import IdempotencyRecord
from jobs.models import BulkAction, Job, Pause, Violation
from operators.admin import (
    accounts_page,
    action_page,
    attention_page,
    audit_page,
    bulk_page,
    idempotency_keys_page,
    job_list_page,
    job_page,
    pauses_page,
    resolve_page,
)
from operators.admin.page_base import ReadOnlyAdmin


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Jobs. Django's own lists count rows and use OFFSET; these pages do neither."""

    pages = (
        ("", "changelist", "jobs.view_job", job_list_page.show_jobs),
        ("bulk/", "bulk", "jobs.operate_job", bulk_page.act_on_many),
        ("attention/", "attention", "jobs.view_job", attention_page.show_attention),
        ("errors/", "errors", "jobs.view_job", attention_page.show_errors),
        ("<uuid:job_id>/", "change", "jobs.view_job", job_page.show_job),
        ("<uuid:job_id>/resolve/", "resolve", "jobs.operate_job", resolve_page.resolve),
        ("<uuid:job_id>/release-key/", "release_key", "jobs.operate_job", action_page.release_key_of_job),
        ("<uuid:job_id>/<slug:name>/", "act", "jobs.operate_job", action_page.act_on_job),
    )


@admin.register(BulkAction)
class BulkActionAdmin(ReadOnlyAdmin):
    pages = (
        ("", "changelist", "jobs.view_job", bulk_page.show_bulk_actions),
        ("<int:bulk_id>/", "change", "jobs.view_job", bulk_page.show_bulk_action),
        ("<int:bulk_id>/stop/", "stop", "jobs.operate_job", bulk_page.stop_bulk_action),
    )


@admin.register(Pause)
class PauseAdmin(ReadOnlyAdmin):
    pages = (
        ("", "changelist", "jobs.view_job", pauses_page.show_pauses),
        ("add/", "add", "jobs.operate_job", pauses_page.add_pause),
        ("<int:pause_id>/resume/", "resume", "jobs.operate_job", pauses_page.resume_pause),
    )


@admin.register(Violation)
class ViolationAdmin(ReadOnlyAdmin):
    """Findings of the self-audit, on Django's own pages. A later audit resolves them."""

    list_display = ("invariant", "rule", "subject", "first_seen_at", "last_seen_at", "resolved_at")
    list_filter = ("invariant", "rule", ("resolved_at", admin.EmptyFieldListFilter))
    search_fields = ("=subject",)
    ordering = ("-last_seen_at", "-id")
    show_full_result_count = False


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(ReadOnlyAdmin):
    pages = (("", "changelist", "idempotency.view_idempotencyrecord", idempotency_keys_page.show_keys),)


@admin.register(Tenant)
class TenantAdmin(ReadOnlyAdmin):
    """Tenants. They cannot be renamed or deleted, because their jobs and keys refer to them."""

    pages = (
        ("", "changelist", "accounts.view_tenant", accounts_page.show_tenants),
        ("add/", "add", "accounts.add_tenant", accounts_page.add_tenant),
        ("<int:tenant_id>/", "change", "accounts.view_tenant", accounts_page.show_tenant),
    )


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    """API keys. A revoked key is kept, so that its requests can be traced."""

    pages = (
        ("", "changelist", "accounts.view_apikey", accounts_page.show_api_keys),
        ("add/", "add", "accounts.add_apikey", accounts_page.add_api_key),
        ("<slug:key_id>/revoke/", "revoke", "accounts.change_apikey", accounts_page.revoke_key),
    )


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    pages = (("", "changelist", "accounts.view_auditentry", audit_page.show_audit_log),)
