import django.db.models.functions.datetime
from django.db import migrations, models

# The oldest may go, as a retention must be able to: at 90 days at the soonest, whatever the settings say.
_CREATE = """
    CREATE FUNCTION refuse_to_change_audit_entry() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND OLD.at < now() - interval '90 days' THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'The audit log is append-only.' USING ERRCODE = 'insufficient_privilege';
    END $$;
    CREATE TRIGGER audit_entry_append_only BEFORE UPDATE OR DELETE ON audit_entry
        FOR EACH ROW EXECUTE FUNCTION refuse_to_change_audit_entry()"""
_DROP = """
    DROP TRIGGER audit_entry_append_only ON audit_entry;
    DROP FUNCTION refuse_to_change_audit_entry()"""


class Migration(migrations.Migration):
    """The audit log, which the database keeps append-only."""

    dependencies = [("accounts", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ("actor", models.CharField(max_length=200)),
                ("action", models.CharField(max_length=50)),
                ("subject", models.CharField(max_length=600)),
                ("note", models.TextField(blank=True)),
                ("details", models.JSONField(default=dict)),
            ],
            options={
                "verbose_name_plural": "audit entries",
                "db_table": "audit_entry",
                "indexes": [models.Index(fields=["subject", "-id"], name="audit_entry_by_subject")],
            },
        ),
        migrations.RunSQL(_CREATE, _DROP),
    ]
