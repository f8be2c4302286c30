"""The lake's tables in the Glue catalog, through awswrangler."""

from __future__ import annotations

import awswrangler as wr
import boto3
from botocore.exceptions import BotoCoreError, ClientError

from twinloop.errors import UnavailableError
from twinloop.ingest.columns import Table
from twinloop.ingest.names import lake_prefix

_TYPES = {
    "text": "string",
    "json": "string",
    "float": "double",
    "int": "bigint",
    "bool": "boolean",
    "time": "timestamp",
    "list": "array<string>",
}


class GlueCatalog:
    """One Glue database. What this process registered already is not registered again.

    Args:
        bucket: Where the lake is.
        database: The database's name.
        session: A boto3 session; the default one otherwise.
    """

    def __init__(self, bucket: str, database: str, session: boto3.Session | None = None) -> None:
        self._bucket, self._database, self._session = bucket, database, session
        self._known: set[tuple[str, str]] = set()

    def register(self, system: str, table: Table, dates: set[str]) -> None:
        name = f"{system}_{table.name}".replace("-", "_")
        path = f"s3://{self._bucket}/{lake_prefix(system, table.name)}"
        new = {date for date in dates if (name, date) not in self._known}
        if not new:
            return
        try:
            if (name, "") not in self._known:
                self._create(name, path, table)
            partitions = {f"{path}dt={date}/": [date] for date in sorted(new)}
            wr.catalog.add_parquet_partitions(
                self._database, name, partitions_values=partitions, boto3_session=self._session
            )
        except (ClientError, BotoCoreError, wr.exceptions.ServiceApiError) as error:
            raise UnavailableError(f"the Glue catalog did not take {name}: {error}") from error
        self._known |= {(name, ""), *((name, date) for date in new)}

    def _create(self, name: str, path: str, table: Table) -> None:
        types = {column.name: _TYPES[column.kind] for column in table.columns}
        if wr.catalog.does_table_exist(self._database, name, boto3_session=self._session):
            known = wr.catalog.get_table_types(self._database, name, boto3_session=self._session) or {}
            if set(types) <= set(known):
                return
        try:
            wr.catalog.create_parquet_table(
                self._database,
                name,
                path,
                columns_types=types,
                partitions_types={"dt": "date"},
                description=f"Raw {table.name} that passed their contract, by date",
                mode="append",
                boto3_session=self._session,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "AlreadyExistsException":  # another delivery was first
                raise
