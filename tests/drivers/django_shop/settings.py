"""Django's settings. Where the database is and what a test varies comes in DJANGO_SHOP, as JSON."""

import json
import os

SECRET_KEY = "for tests"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.contenttypes", "django.contrib.auth", "django.contrib.postgres", "django_shop",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql", **json.loads(os.environ["DJANGO_SHOP"]),
    },
}
