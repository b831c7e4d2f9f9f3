"""The store: every port of one database."""

from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import Self

from service.domain.ports.signals import Signals
from service.storage.audit_log import SqlAuditLog, SqlEndedSignIns
from service.storage.blob_store import SqlBlobStore, TasksWithoutBlobs
from service.storage.circuits import SqlCircuits
from service.storage.clock_jump import SqlClockJumpRepair
from service.storage.credit_pauses import SqlCreditPauses
from service.storage.database import DEFAULT_CONNECTIONS, Database
from service.storage.delivery_details import SqlDeliveryDetails
from service.storage.delivery_queue import SqlDeliveryQueue
from service.storage.endpoint_store import SqlEndpoints
from service.storage.erasure import SqlTaskEraser
from service.storage.event_log import SqlEventLog
from service.storage.handler_jobs import SqlHandlerJobs
from service.storage.handler_pauses import SqlHandlerPauses
from service.storage.handler_state import SqlHandlerState
from service.storage.health import SqlHealth
from service.storage.health_samples import SqlHealthSamples
from service.storage.inbox import SqlInbox
from service.storage.key_rejections import SqlKeyRejections
from service.storage.local_signals import LocalSignals
from service.storage.operator_events import SqlOperatorEvents
from service.storage.overview import SqlOverview
from service.storage.price_list import SqlPriceList
from service.storage.process_registry import SqlLastRuns, SqlProcessRegistry
from service.storage.queries import SqlTaskQueries
from service.storage.refusals import SqlRefusals
from service.storage.replays import SqlReplays
from service.storage.retention import SqlRetention
from service.storage.run_time_stats import SqlRunTimeStats
from service.storage.sealed_secrets import SqlSealedSecrets
from service.storage.search_index import SqlSearchIndex
from service.storage.task_intake import SqlTaskIntake
from service.storage.task_queue import SqlTaskQueue
from service.storage.unit_of_work import SqlUnitOfWorkFactory
from service.storage.usage import SqlUsageReports
from service.storage.watched_tasks import SqlWatchedTasks


class Store:
    """The ports of one database; `async with` or `close` ends its connections."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.signals: Signals = database.signals
        self.units_of_work = SqlUnitOfWorkFactory(database)
        self.inbox = SqlInbox(database)
        without_blobs = TasksWithoutBlobs()
        self.intake = SqlTaskIntake(database, without_blobs)
        self.blobs = SqlBlobStore(database, without_blobs)
        self.sealed_secrets = SqlSealedSecrets(database)
        self.queries = SqlTaskQueries(database)
        self.events = SqlEventLog(database)
        self.tasks = SqlTaskQueue(database)
        self.credit_pauses = SqlCreditPauses(database)
        self.key_rejections = SqlKeyRejections(database)
        self.deliveries = SqlDeliveryQueue(database)
        self.endpoints = SqlEndpoints(database)
        self.replays = SqlReplays(database)
        self.refusals = SqlRefusals(database)
        self.health = SqlHealth(database)
        self.run_time_stats = SqlRunTimeStats(database)
        self.usage = SqlUsageReports(database)
        self.eraser = SqlTaskEraser(database)
        self.search_index = SqlSearchIndex(database)
        self.retention = SqlRetention(database)
        self.processes = SqlProcessRegistry(database)
        self.last_runs = SqlLastRuns(database)
        self.watched_tasks = SqlWatchedTasks(database)
        self.handler_state = SqlHandlerState(database)
        self.handler_jobs = SqlHandlerJobs(database)
        self.overview = SqlOverview(database)
        self.audit_log = SqlAuditLog(database)
        self.ended_sign_ins = SqlEndedSignIns(database)
        self.delivery_details = SqlDeliveryDetails(database)
        self.health_samples = SqlHealthSamples(database)
        self.prices = SqlPriceList(database)
        self.operator_events = SqlOperatorEvents(database)
        self.circuits = SqlCircuits(database)
        self.handler_pauses = SqlHandlerPauses(database)
        self.clock_jump_repair = SqlClockJumpRepair(database)

    def listening(self) -> AbstractAsyncContextManager[None]:
        """Forward notifications of other processes to `signals` inside the block; on SQLite there are none."""
        if not self._database.address.postgres:
            return nullcontext()
        from service.storage.pg_listener import listening  # noqa: PLC0415 - needs the driver of the extra `postgres`

        return listening(self._database)

    async def close(self) -> None:
        """Close every connection."""
        await self.health.close()
        await self.blobs.close()
        await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def open_store(
    database_url: str,
    *,
    signals: Signals | None = None,
    connections: int = DEFAULT_CONNECTIONS,
    listen_url: str | None = None,
) -> Store:
    """Return the store at `database_url`, without a migration of its schema.

    PostgreSQL gets at most `connections`, of which one listens for notifications, at `listen_url` where it is given.
    Raises BadSetting for an invalid address, StoreUnavailable for an SQLite file that cannot be used.
    """
    database = Database(database_url, signals or LocalSignals(), connections=connections, listen_url=listen_url)
    return Store(database)
