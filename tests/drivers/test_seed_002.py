"""The second seed: its SQLAlchemy `DatabaseManager`, and its promises about errors and exhaustion.

`docs/SEEDS.md` lists what had to change, each of which a direct connection needs too.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker

from support.load import in_threads, most_servers


@dataclass
class DatabaseConfig:
    url: str = "sqlite:///database/trading_data.db"
    pool_size: int = 20          # Base pool size
    max_overflow: int = 50       # Additional connections when needed
    pool_timeout: int = 30       # Timeout waiting for connection
    pool_recycle: int = 3600     # Recycle connections hourly
    pool_pre_ping: bool = True   # Verify connections before use
    echo: bool = False           # SQL logging for debugging


class DatabaseManager:
    def __init__(self, config: DatabaseConfig):
        self.engine = create_engine(
            config.url,
            pool_size=config.pool_size,
            max_overflow=config.max_overflow,
            pool_timeout=config.pool_timeout,
            pool_recycle=config.pool_recycle,
            pool_pre_ping=config.pool_pre_ping,
            echo=config.echo
        )
        self.session_factory = sessionmaker(bind=self.engine)

    @contextmanager
    def get_session(self):
        """Context manager for database sessions"""
        session = self.session_factory()
        try:
            yield session
            session.commit()
        except Exception:
            session.rollback()
            raise
        finally:
            session.close()

    def health_check(self) -> bool:
        """Check database connectivity and pool status"""
        try:
            with self.get_session() as session:
                session.execute(text("SELECT 1"))  # changed: SQLAlchemy 2 refuses a bare string
            return True
        except Exception:
            return False

    def get_pool_status(self) -> Dict[str, Any]:
        """Get connection pool statistics"""
        pool = self.engine.pool
        return {
            "size": pool.size(),
            "checked_in": pool.checkedin(),
            "checked_out": pool.checkedout(),
            "overflow": pool.overflow(),
            # changed: QueuePool has no invalid()
        }


@pytest.fixture
def manager(start):
    """The seed's manager with its own settings, before a domain that is much smaller."""
    proxy = start(pool={"size": 10, "max_overflow": 0, "timeout": "30s"})
    manager = DatabaseManager(DatabaseConfig(url=proxy.url()))
    yield manager
    manager.engine.dispose()


def test_the_health_check_is_true_while_the_database_answers(manager):
    assert manager.health_check() is True


def test_the_health_check_is_false_when_the_database_is_unknown(start):
    proxy = start()
    manager = DatabaseManager(DatabaseConfig(url=proxy.url(dbname="nowhere")))

    assert manager.health_check() is False


def test_a_session_commits_on_success_and_rolls_back_on_an_exception(manager):
    with manager.get_session() as session:
        session.execute(text("CREATE TABLE t (id int)"))
        session.execute(text("INSERT INTO t VALUES (1)"))
    with pytest.raises(RuntimeError):
        with manager.get_session() as session:
            session.execute(text("INSERT INTO t VALUES (2)"))
            raise RuntimeError("changed my mind")

    with manager.get_session() as session:
        assert session.execute(text("SELECT count(*) FROM t")).scalar() == 1


def test_the_pool_status_counts_what_is_checked_out(manager):
    with manager.get_session() as session:
        session.execute(text("SELECT 1"))
        assert manager.get_pool_status()["checked_out"] == 1

    status = manager.get_pool_status()
    assert (status["size"], status["checked_in"], status["checked_out"]) == (20, 1, 0)


@pytest.mark.targets("pgbouncer")
def test_70_concurrent_operations_on_10_servers_fail_less_than_one_in_a_thousand(
    manager, postgres, database
):
    def operation(number: int) -> bool:
        with manager.get_session() as session:
            answer = session.execute(text("SELECT :n FROM pg_sleep(0.001)"), {"n": number})
            return answer.scalar() == number

    with most_servers(postgres, database) as counts:
        results = in_threads(operation, calls=2000, threads=70)

    failed = results.count(False)
    assert failed / len(results) < 0.001
    assert max(counts) <= 10


@pytest.mark.targets()
def test_the_seeds_gauges_and_histogram_are_offered_under_their_own_names(start):
    proxy = start(http={"seed_metrics": True})
    conn = proxy.connect()
    conn.cursor().execute("SELECT 1")

    assert proxy.metric("db_pool_connections_total") == 1
    assert proxy.metric("db_pool_connections_active") == 1
    conn.commit()
    assert proxy.metric("db_query_duration_seconds_count") >= 1


@pytest.mark.targets()
def test_the_seeds_metric_names_are_absent_unless_asked_for(proxy):
    proxy.ask("SELECT 1")

    assert not [name for name, _, _ in proxy.samples() if name.startswith("db_")]
