"""The migrations of the schema, in order.

The release before goes on over the new schema until the last of its processes has stopped. Therefore a step only adds:
tables, indexes, and columns that may be empty or have a default on the server's side, so that inserts which do not name
them work. It renames, drops and tightens nothing that the release before uses; what is no longer used goes one release
later. Every step runs in one transaction, on SQLite and PostgreSQL, over a database with rows in it.
"""
