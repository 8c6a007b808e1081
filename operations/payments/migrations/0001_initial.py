import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name='Account',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scope', models.CharField(max_length=64)),
                ('customer', models.CharField(max_length=255)),
                ('currency', models.CharField(max_length=3)),
                ('balance', models.BigIntegerField(db_default=0, default=0)),
                ('version', models.BigIntegerField(db_default=0, default=0)),
            ],
            options={
                'db_table': 'payment_account',
                'constraints': [
                    models.UniqueConstraint(fields=('scope', 'customer', 'currency'), name='payment_account_is_one'),
                    models.CheckConstraint(condition=models.Q(('balance__gte', 0)), name='payment_account_is_never_below_zero'),
                ],
            },
        ),
        migrations.CreateModel(
            name='Charge',
            fields=[
                ('job_id', models.UUIDField(primary_key=True, serialize=False)),
                ('scope', models.CharField(max_length=64)),
                ('charge_id', models.CharField(max_length=255)),
                ('customer', models.CharField(max_length=255, null=True)),
                ('currency', models.CharField(max_length=3)),
                ('captured', models.BigIntegerField()),
                ('refunded', models.BigIntegerField(db_default=0, default=0)),
                ('version', models.BigIntegerField(db_default=0, default=0)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'db_table': 'payment_charge',
                'constraints': [models.CheckConstraint(condition=models.Q(('refunded__gte', 0), ('refunded__lte', models.F('captured'))), name='payment_charge_refunds_fit')],
            },
        ),
        migrations.CreateModel(
            name='Refund',
            fields=[
                ('job_id', models.UUIDField(primary_key=True, serialize=False)),
                ('amount', models.BigIntegerField()),
                ('is_held', models.BooleanField(default=True)),
                ('charge', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='refunds', to='payments.charge')),
            ],
            options={
                'db_table': 'payment_refund',
                'constraints': [models.CheckConstraint(condition=models.Q(('amount__gt', 0)), name='payment_refund_is_something')],
            },
        ),
    ]
