import django.db.models.functions.datetime
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):
    """Acts of operators on many jobs at once. A new table; code that does not know it goes on."""

    dependencies = [
        ('jobs', '0021_find_how_long_jobs_have_been_due'),
    ]

    operations = [
        migrations.CreateModel(
            name='BulkAction',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('action', models.CharField(choices=[('cancel', 'Cancel'), ('redrive', 'Redrive'), ('resolve', 'Resolve'), ('release', 'Release')], max_length=7)),
                ('selection', models.JSONField()),
                ('said', models.JSONField(default=dict)),
                ('note', models.TextField()),
                ('by', models.CharField(max_length=200)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('until', models.UUIDField()),
                ('cursor', models.UUIDField(default=uuid.UUID('00000000-0000-0000-0000-000000000000'))),
                ('changed', models.PositiveBigIntegerField(default=0)),
                ('refused', models.JSONField(default=dict)),
                ('finished_at', models.DateTimeField(null=True)),
                ('is_stopped', models.BooleanField(default=False)),
            ],
            options={
                'db_table': 'job_bulk_action',
                'indexes': [models.Index(condition=models.Q(('finished_at', None)), fields=['id'], name='job_bulk_action_open')],
            },
        ),
    ]
