import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

# A retention period may delete old entries, but never one younger than 90 days, whatever the settings are.
CREATE_TRIGGER = """
    CREATE FUNCTION refuse_to_change_audit_entry() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND OLD.at < now() - interval '90 days' THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'The audit log is append-only.' USING ERRCODE = 'insufficient_privilege';
    END $$;
    CREATE TRIGGER audit_entry_append_only BEFORE UPDATE OR DELETE ON audit_entry
        FOR EACH ROW EXECUTE FUNCTION refuse_to_change_audit_entry()"""
DROP_TRIGGER = """
    DROP TRIGGER audit_entry_append_only ON audit_entry;
    DROP FUNCTION refuse_to_change_audit_entry()"""


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name='Tenant',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={'db_table': 'tenant'},
        ),
        migrations.CreateModel(
            name='AuditEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('actor', models.CharField(max_length=200)),
                ('action', models.CharField(max_length=50)),
                ('subject', models.CharField(max_length=600)),
                ('note', models.TextField(blank=True)),
                ('details', models.JSONField(default=dict)),
            ],
            options={
                'verbose_name_plural': 'audit entries',
                'db_table': 'audit_entry',
                'indexes': [models.Index(fields=['subject', '-id'], name='audit_entry_by_subject')],
            },
        ),
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.CharField(max_length=16, primary_key=True, serialize=False)),
                ('mode', models.CharField(choices=[('test', 'Test'), ('live', 'Live')], max_length=4)),
                ('secret_sha256', models.BinaryField(max_length=32)),
                ('is_admin', models.BooleanField(db_default=False, default=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='api_keys', to='accounts.tenant')),
            ],
            options={
                'verbose_name': 'API key',
                'db_table': 'api_key',
                'constraints': [models.CheckConstraint(condition=models.Q(('mode__in', ['test', 'live'])), name='api_key_mode_is_known')],
            },
        ),
        migrations.RunSQL(CREATE_TRIGGER, DROP_TRIGGER),
    ]
