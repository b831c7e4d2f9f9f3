"""The known prices of tasks: a number of index entries for each bucket, however many tasks there are."""

from service.domain.prices import model_of
from service.storage.daily_budget import BUCKETS_WITH_COSTS, bucket_prices
from service.storage.database import Database

MAX_BUCKETS = 60


class SqlPriceList:
    """Implements `PriceList`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, model: str, *, each: float) -> dict[str, float]:
        """Return the known prices of a model in US dollars by bucket, at most MAX_BUCKETS of them."""
        async with self._database.reading() as connection:
            buckets = (await connection.execute(BUCKETS_WITH_COSTS)).scalars()
            wanted = [bucket for bucket in buckets if model_of(bucket) == model][:MAX_BUCKETS]
            return await bucket_prices(connection, wanted, each)
