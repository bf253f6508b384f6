"""The tables, in peewee's words and in no database's dialect.

Of what may be long (a path, a URL) only SQLite has an index as of any other value: PostgreSQL's ends at 2,700 bytes,
MySQL's at 3,072.  A unit is known by a hash, a source by its position among those of its unit; that there is none twice
is up to the one writer, who has them in a dict.  For paths and keys each kind of server has an index of its own
(database/).

    units              one row a unit; ``identity`` is its natural key (type and canonical JSON key), hashed
    digests            algorithm, value in bytes, and whether a spec told it (trusted) or it was only observed
    sources            every place a unit can come from, in the order told, how long it counts, and how it has done
    repositories       their names
    unit_repositories  which unit belongs to which
    leftovers          what lies in a store and is no unit's any more, since when; what a gc removed a while ago
    geofetch_schema    the versions this database went through; the highest is its own

Times are microseconds since 1970 UTC, in columns ending in ``_us``: one integer compares, sorts and indexes alike in
every database.  An inode above 2**63 is kept as the negative number of the same 64 bits.

Out: models that are bound to no database; whoever asks says which.  Never: a connection, a secret.
"""

from __future__ import annotations

from typing import Any

from peewee import (
    SQL,
    BigAutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    Check,
    CompositeKey,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
)

__all__ = [
    "MODELS",
    "DigestRow",
    "LeftoverRow",
    "LongTextField",
    "RepositoryRow",
    "SchemaRow",
    "SourceRow",
    "UnitRepositoryRow",
    "UnitRow",
]


class HashField(BlobField):
    """Sixteen bytes."""

    field_type = "HASH"


class NameField(TextField):
    """Text that any index takes, and that a row has to be found by: not beyond some hundred letters."""

    field_type = "NAME"


class LongTextField(TextField):
    """Text that may be longer than an index takes, with an index all the same."""

    field_type = "LONGTEXT"


def _one_of(column: str, *values: str) -> Any:
    # Not IN: SQLite makes a table in memory of its values, for every row that it checks.
    return Check(" OR ".join(f"{column} = '{value}'" for value in values))


class SchemaRow(Model):
    version = IntegerField(primary_key=True)
    applied_at = BigIntegerField(column_name="applied_at_us")

    class Meta:
        table_name = "geofetch_schema"


class UnitRow(Model):
    id = BigAutoField()
    identity = HashField(unique=True)
    type = TextField()
    key = TextField()
    path = LongTextField(index=True)
    store = TextField()
    store_key = LongTextField(index=True)
    size = BigIntegerField(column_name="size_bytes", null=True, constraints=[Check("size_bytes >= 0")])
    mtime_ns = BigIntegerField(null=True)
    inode = BigIntegerField(null=True)
    state = TextField(constraints=[_one_of("state", "present", "missing", "corrupt", "quarantined")])
    verified = TextField(constraints=[_one_of("verified", "digest", "size", "framing", "nothing")])
    metadata = TextField(null=True)
    stored_at = BigIntegerField(column_name="stored_at_us", null=True)
    proven_at = BigIntegerField(column_name="proven_at_us", null=True)
    scrubbed_at = BigIntegerField(column_name="scrubbed_at_us", null=True)
    scrub_result = TextField(null=True)
    # The database's own defaults: a new file's row, which says nothing else, leaves them out.
    policy = NameField(
        constraints=[SQL("DEFAULT 'immediate'"), _one_of("policy", "immediate", "on_demand", "streamed")]
    )
    pending = NameField(null=True, constraints=[_one_of("pending", "fetch")])
    tries = IntegerField(constraints=[SQL("DEFAULT 0")])
    unlisted_at = BigIntegerField(column_name="unlisted_at_us", null=True)

    class Meta:
        table_name = "units"


class DigestRow(Model):
    # The primary key begins with the unit: an index on the unit alone would be written for nothing.
    unit = ForeignKeyField(UnitRow, on_delete="CASCADE", index=False)
    algorithm = NameField()
    value = BlobField()
    trusted = BooleanField()

    class Meta:
        table_name = "digests"
        primary_key = CompositeKey("unit", "algorithm")


class SourceRow(Model):
    id = BigAutoField()
    unit = ForeignKeyField(UnitRow, on_delete="CASCADE", index=False)
    url = TextField()
    profile = TextField()  # "" for none
    priority = BigIntegerField()
    weight = BigIntegerField()
    secret_query = BooleanField()
    last_ok_at = BigIntegerField(column_name="last_ok_at_us", null=True)
    last_failed_at = BigIntegerField(column_name="last_failed_at_us", null=True)
    failures = IntegerField()
    last_error = TextField(null=True)
    position = IntegerField()  # 0 is the one told first
    expires_at = BigIntegerField(column_name="expires_at_us", null=True)
    etag = TextField(null=True)
    last_modified = TextField(null=True)
    cooldown_until = BigIntegerField(column_name="cooldown_until_us", null=True)

    class Meta:
        table_name = "sources"
        indexes = ((("unit", "position"), True),)


class RepositoryRow(Model):
    id = BigAutoField()
    name = NameField(unique=True)

    class Meta:
        table_name = "repositories"


class UnitRepositoryRow(Model):
    unit = ForeignKeyField(UnitRow, on_delete="CASCADE", index=False)
    repository = ForeignKeyField(RepositoryRow, on_delete="CASCADE", index=False)

    class Meta:
        table_name = "unit_repositories"
        primary_key = CompositeKey("unit", "repository")
        # A page of a repository's units, in the order of their ids, is one range of it.
        indexes = ((("repository", "unit"), False),)


class LeftoverRow(Model):
    place = HashField(primary_key=True)  # units.place_hash of the two that follow
    store = TextField()
    store_key = LongTextField()
    left_at = BigIntegerField(column_name="left_at_us")
    # What the file system said of it: who finds another file there leaves it.
    size = BigIntegerField(column_name="size_bytes", null=True)
    mtime_ns = BigIntegerField(null=True)
    inode = BigIntegerField(null=True)
    # A gc has begun to remove it, and has: leftovers.py tells what for.
    taken_at = BigIntegerField(column_name="taken_at_us", null=True)
    removed_at = BigIntegerField(column_name="removed_at_us", null=True)

    class Meta:
        table_name = "leftovers"


MODELS: tuple[type[Model], ...] = (
    SchemaRow,
    UnitRow,
    DigestRow,
    SourceRow,
    RepositoryRow,
    UnitRepositoryRow,
    LeftoverRow,
)
