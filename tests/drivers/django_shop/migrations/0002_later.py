"""What needs a transaction of its own or none: data, and an index made concurrently."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


def add_the_first_customer(apps, _schema_editor):
    apps.get_model("django_shop", "Customer").objects.create(name="the first")


def remove_the_first_customer(apps, _schema_editor):
    apps.get_model("django_shop", "Customer").objects.filter(name="the first").delete()


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("django_shop", "0001_initial")]
    operations = [
        migrations.RunPython(add_the_first_customer, remove_the_first_customer),
        AddIndexConcurrently("order", models.Index(fields=["placed"], name="by_placed")),
        migrations.RunSQL("SET LOCAL lock_timeout = '1s'", migrations.RunSQL.noop),
    ]
