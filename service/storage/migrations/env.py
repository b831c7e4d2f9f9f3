"""Entry point of Alembic: runs the migrations on the connection and in the transaction of `migrate`.

Migrations find in the option `new_database` whether this run creates the database.
"""

from alembic import context
from alembic.migration import MigrationContext

from service.storage.tables import metadata

connection = context.config.attributes["connection"]
new_database = MigrationContext.configure(connection).get_current_revision() is None
context.configure(connection=connection, target_metadata=metadata, new_database=new_database)
with context.begin_transaction():
    context.run_migrations()
