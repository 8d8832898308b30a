"""A small Django project: models, migrations, and what a site does with them."""
