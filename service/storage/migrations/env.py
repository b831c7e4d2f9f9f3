"""Entry point of Alembic: runs the migrations on the connection and in the transaction of `migrate`.

Migrations find in the option `new_database` whether this run creates the database.
"""

from alembic import context
from alembic.migration import MigrationContext

from service.storage.tables import metadata

connection = context.config.attributes["connection"]
schema = context.config.attributes.get("version_table_schema")
versions = MigrationContext.configure(connection, opts={"version_table_schema": schema})
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table_schema=schema,
    new_database=versions.get_current_revision() is None,
)
with context.begin_transaction():
    context.run_migrations()
