"""The records of the registry in SQL: tables, migrations, queries, and the caches in front of them."""
