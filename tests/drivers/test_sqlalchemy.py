"""SQLAlchemy 2 through a pool: ORM, its own pools on top of ours, sync and async."""


import asyncio
import datetime
import io
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import psycopg2
import pytest
from sqlalchemy import (
    ARRAY, DateTime, ForeignKey, Integer, Numeric, create_engine, event, func, insert, inspect,
    select, text, update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship, selectinload,
)

from support.load import in_threads, run_async
from support.values import VALUES
from support.wait import wait_until

pytestmark = pytest.mark.each_pool

SYNC = ["postgresql+psycopg2", "postgresql+psycopg"]
ASYNC = ["postgresql+asyncpg", "postgresql+psycopg_async"]


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


class Measure(Base):
    """A column of each kind."""

    __tablename__ = "measure"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True))
    level: Mapped[Decimal] = mapped_column(Numeric(30, 10))
    raw: Mapped[bytes]
    counts: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    notes: Mapped[dict] = mapped_column(JSONB)
    remark: Mapped[str | None]


MEASURE = {
    "id": uuid.UUID("0b6d2f9c-8a4e-4d5f-9d0e-1f2a3b4c5d6e"),
    "at": datetime.datetime(2038, 1, 19, 3, 14, 8, 1, datetime.timezone.utc),
    "level": Decimal("12345678901234567890.0123456789"),
    "raw": bytes(range(256)),
    "counts": [3, 1, 2],
    "notes": {"a": [1, None, "ü"]},
    "remark": None,
}


@pytest.fixture(params=SYNC)
def engine(request, proxy):
    engine = create_engine(proxy.url(request.param))
    yield engine
    engine.dispose()


def with_async_engine(proxy, body, scheme=ASYNC[0], **how):
    """Runs `body(engine)` on asyncpg or another asynchronous driver."""
    async def run():
        engine = create_async_engine(proxy.url(scheme), **how)
        try:
            return await body(engine)
        finally:
            await engine.dispose()

    return run_async(run())


def sqlstate(error: Exception) -> str:
    """psycopg2 and psycopg 3 have different names for it."""
    cause = getattr(error, "orig", error)
    return getattr(cause, "sqlstate", None) or cause.pgcode


def test_orm_objects_are_stored_found_changed_and_deleted(engine):
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Author(name="Ursula", books=[Book(title="A"), Book(title="B")]))

    with Session(engine) as session, session.begin():
        author = session.scalars(select(Author)).one()
        author.name = "U. K."
        session.delete(author.books[0])

    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Book)) == 1
        assert session.scalars(select(Author.name)).all() == ["U. K."]


def test_a_failed_flush_rolls_back_and_the_session_goes_on(engine):
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Author(name="one"))
        session.commit()
        session.add(Author(name="one"))
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        session.add(Author(name="two"))
        session.commit()

        assert session.scalars(select(Author.name).order_by(Author.id)).all() == ["one", "two"]


def test_an_orm_bulk_insert_of_1000_rows_arrives_whole(engine):
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Author(name=f"author {i}") for i in range(1000)])

    with Session(engine) as session:
        assert session.scalar(select(func.count(Author.name.distinct()))) == 1000


def test_a_bulk_insert_returns_its_keys_in_order(engine):
    Base.metadata.create_all(engine)
    names = [{"name": f"author {i}"} for i in range(3000)]
    with Session(engine) as session, session.begin():
        statement = insert(Author).returning(Author.id, Author.name, sort_by_parameter_order=True)
        rows = session.execute(statement, names).all()

    assert [row.name for row in rows] == [row["name"] for row in names]
    assert len({row.id for row in rows}) == 3000


def test_relationships_are_loaded_with_joins_and_with_selects(engine):
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(
            Author(name=f"{a}", books=[Book(title=f"{a}.{b}") for b in range(3)]) for a in range(50)
        )

    for load in (joinedload, selectinload):
        with Session(engine) as session:
            query = select(Author).options(load(Author.books)).order_by(Author.id)
            authors = session.scalars(query).unique().all()
            titles = [sorted(book.title for book in author.books) for author in authors]
        assert titles == [[f"{a}.{b}" for b in range(3)] for a in range(50)]


def test_a_savepoint_undoes_its_own_part_of_a_session(engine):
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for name in ("one", "two", "one", "three"):
            try:
                with session.begin_nested():
                    session.add(Author(name=name))
            except IntegrityError as error:
                assert sqlstate(error) == "23505"

    with Session(engine) as session:
        names = session.scalars(select(Author.name).order_by(Author.id)).all()
    assert names == ["one", "two", "three"]


def test_two_phase_sessions_commit_and_roll_back_what_they_prepared(engine):
    Base.metadata.create_all(engine)
    for name, end in (("kept", Session.commit), ("dropped", Session.rollback)):
        with Session(engine, twophase=True) as session:
            session.add(Author(name=name))
            session.flush()
            session.prepare()
            end(session)

    with Session(engine) as session:
        assert session.scalars(select(Author.name)).all() == ["kept"]


def test_each_kind_of_column_comes_back_as_it_went(engine):
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Measure(**MEASURE))

    with Session(engine) as session:
        found = session.scalars(select(Measure)).one()
        assert {name: getattr(found, name) for name in MEASURE} == MEASURE


def test_rows_locked_for_update_are_changed_by_one_session_at_a_time(engine):
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Measure(**{**MEASURE, "level": 0}))

    def add_one(_call: int) -> None:
        with Session(engine) as session, session.begin():
            measure = session.scalars(select(Measure).with_for_update()).one()
            measure.level += 1

    in_threads(add_one, calls=40, threads=5)

    with Session(engine) as session:
        assert session.scalar(select(Measure.level)) == 40


def test_a_statement_that_takes_too_long_is_57014_and_the_pool_goes_on(engine):
    for _ in range(3):
        with engine.connect() as conn, pytest.raises(DBAPIError) as caught:
            conn.execute(text("SET LOCAL statement_timeout = '50ms'"))
            conn.execute(text("SELECT pg_sleep(30)"))
        assert sqlstate(caught.value) == "57014"
        with engine.connect() as conn:
            assert conn.scalar(text("SELECT 1")) == 1


def test_100000_rows_are_streamed_in_partitions(engine):
    with engine.connect() as conn:
        query = text("SELECT n, repeat('x', n % 50) FROM generate_series(1, 100000) n")
        result = conn.execute(query, execution_options={"yield_per": 10_000})
        sizes = [len(partition) for partition in result.partitions(10_000)]

    assert sizes == [10_000] * 10


def test_the_inspector_finds_tables_columns_and_keys(engine):
    Base.metadata.create_all(engine)

    found = inspect(engine)

    assert set(found.get_table_names()) == {"author", "book", "measure"}
    assert [column["name"] for column in found.get_columns("author")] == ["id", "name"]
    assert found.get_foreign_keys("book")[0]["referred_table"] == "author"


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE", "REPEATABLE READ"])
def test_an_isolation_level_of_one_connection_is_not_anothers(engine, level):
    with engine.connect().execution_options(isolation_level=level) as conn:
        shown = conn.scalar(text("SHOW transaction_isolation")).upper()
        assert shown == ("READ COMMITTED" if level == "AUTOCOMMIT" else level)

    with engine.connect() as conn:
        assert conn.scalar(text("SHOW transaction_isolation")) == "read committed"


def test_streamed_results_have_all_rows_in_order(engine):
    with engine.connect().execution_options(stream_results=True, max_row_buffer=100) as conn:
        rows = conn.execute(text("SELECT generate_series(1, 5000)")).scalars().all()

    assert rows == list(range(1, 5001))


def test_queuepool_with_more_connections_than_servers_serves_all_threads(start):
    proxy = start(pool={"size": 5})
    engine = create_engine(proxy.url(SYNC[0]), pool_size=20, max_overflow=50, pool_timeout=30)

    def work(number: int) -> int:
        with engine.connect() as conn:
            return conn.scalar(text("SELECT :n FROM pg_sleep(0.002)"), {"n": number})

    assert in_threads(work, calls=300, threads=50) == list(range(300))
    engine.dispose()


def test_pool_pre_ping_survives_every_server_being_terminated(start, observer, database):
    proxy = start(pool={"size": 2})
    engine = create_engine(proxy.url(SYNC[0]), pool_pre_ping=True)
    pings = []
    event.listen(engine, "checkout", lambda *_: pings.append(1))

    for number in range(5):
        with engine.connect() as conn:
            assert conn.scalar(text("SELECT :n"), {"n": number}) == number
        observer.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = %s AND pid <> pg_backend_pid()",
            (database,),
        )

    assert len(pings) == 5
    engine.dispose()


# What SQLAlchemy leaves to the driver: COPY, cancel, results in binary


SLEEP = "SELECT pg_sleep(30)"
TWO_TABLES = """
CREATE TABLE a AS SELECT n, 'row\t' || n AS t FROM generate_series(1, 20000) n;
CREATE TABLE b (n int PRIMARY KEY, t text)
"""
GOOD = b"".join(b"%d\tx\n" % n for n in range(50_000))
REFUSED = {b"one\tx\n": "22P02", b"7\tx\n": "23505", b"1\n": "22P04"}
"""A line that does not go into `b` among good ones: the error."""


class Torn(io.BytesIO):
    """A file that is gone after its first block."""

    def read(self, size=-1):
        self._end_after_one()
        return super().read(size)

    def write(self, block):
        self._end_after_one()
        return super().write(block)

    def _end_after_one(self) -> None:
        if self.tell() > 0:
            raise OSError("the disk is gone")


def copy_table_out(driver, table: str, how: str, file) -> None:
    """Writes a table to a file as each driver has it."""
    sql = f"COPY {table} TO STDOUT (FORMAT {how})"
    cursor = driver.cursor()
    if hasattr(cursor, "copy_expert"):
        cursor.copy_expert(sql, file)
        return
    with cursor.copy(sql) as copy:
        for block in copy:
            file.write(block)


def copy_table_in(driver, table: str, how: str, file) -> None:
    """Reads a file into a table as each driver has it."""
    sql = f"COPY {table} FROM STDIN (FORMAT {how})"
    cursor = driver.cursor()
    if hasattr(cursor, "copy_expert"):
        cursor.copy_expert(sql, file)
        return
    with cursor.copy(sql) as copy:
        while block := file.read(8192):
            copy.write(block)


def sleeping(observer) -> int:
    """How many statements of the test's database are in pg_sleep."""
    observer.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    return observer.fetchone()[0]


@pytest.mark.parametrize("how", ["text", "binary"])
def test_copy_on_the_drivers_connection_belongs_to_the_block_around_it(engine, observer, how):
    with engine.begin() as conn:
        conn.execute(text(TWO_TABLES))
    carried, direct = io.BytesIO(), io.BytesIO()

    for end in ("rollback", "commit"):
        with engine.connect() as conn:
            driver = conn.connection.driver_connection
            carried = io.BytesIO()
            copy_table_out(driver, "a", how, carried)
            carried.seek(0)
            copy_table_in(driver, "b", how, carried)
            assert conn.scalar(text("SELECT count(*) FROM b")) == 20_000
            getattr(conn, end)()

    observer.copy_expert(f"COPY a TO STDOUT (FORMAT {how})", direct)
    assert carried.getvalue() == direct.getvalue()
    with engine.connect() as conn:
        assert conn.scalar(text("SELECT count(*) FROM b")) == 20_000
        assert conn.scalar(text("SELECT count(*) FROM (TABLE a EXCEPT TABLE b) d")) == 0


def test_a_copy_that_the_server_refuses_leaves_the_session_usable(engine):
    with engine.begin() as conn:
        conn.execute(text(TWO_TABLES))

    with engine.connect() as conn:
        driver = conn.connection.driver_connection
        for bad, state in REFUSED.items():
            with pytest.raises(driver_error(engine)) as caught, conn.begin():
                copy_table_in(driver, "b", "text", io.BytesIO(GOOD + bad + GOOD))
            assert sqlstate(caught.value) == state
            with pytest.raises(driver_error(engine)) as caught, conn.begin():
                copy_table_out(driver, "nowhere", "text", io.BytesIO())
            assert sqlstate(caught.value) == "42P01"
            with conn.begin() as block:
                assert conn.scalar(text("SELECT count(*) FROM b")) == 0
                copy_table_in(driver, "b", "text", io.BytesIO(GOOD))
                assert conn.scalar(text("SELECT count(*) FROM b")) == 50_000
                block.rollback()


def test_a_copy_that_the_application_gives_up_leaves_the_session_usable(engine):
    with engine.begin() as conn:
        conn.execute(text(TWO_TABLES))

    with engine.connect() as conn:
        driver = conn.connection.driver_connection
        for _ in range(3):
            # psycopg2 raises what the server says of it, psycopg 3 what the file raised.
            with pytest.raises((OSError, psycopg2.errors.QueryCanceled)), conn.begin():
                copy_table_in(driver, "b", "text", Torn(GOOD))
            with conn.begin():
                assert conn.scalar(text("SELECT count(*) FROM b")) == 0
            with pytest.raises(OSError), conn.begin():
                copy_table_out(driver, "a", "text", Torn())
            with conn.begin():
                assert conn.scalar(text("SELECT count(*) FROM a")) == 20_000


def driver_error(engine) -> type[Exception]:
    """What the driver raises where SQLAlchemy does not stand in between."""
    return engine.dialect.loaded_dbapi.Error


def test_a_statement_cancelled_by_its_driver_is_57014_and_the_session_goes_on(engine, observer):
    with engine.connect() as conn, ThreadPoolExecutor(1) as thread:
        driver = conn.connection.driver_connection
        cancel = getattr(driver, "cancel_safe", driver.cancel)
        for _ in range(3):
            asleep = thread.submit(conn.execute, text(SLEEP))
            wait_until(lambda: sleeping(observer), "the statement runs")
            cancel()
            with pytest.raises(DBAPIError) as caught:
                asleep.result(10)
            assert sqlstate(caught.value) == "57014"
            with pytest.raises(DBAPIError) as caught:
                conn.scalar(text("SELECT 1"))
            assert sqlstate(caught.value) == "25P02"
            conn.rollback()

            # Nothing is under way: this one must not hit what comes next, here or elsewhere.
            cancel()
            assert conn.scalar(text("SELECT 7 FROM pg_sleep(0.1)")) == 7
            conn.rollback()
            with engine.connect() as other:
                assert other.scalar(text("SELECT 8 FROM pg_sleep(0.1)")) == 8


@pytest.mark.targets("direct")
def test_a_cursor_in_binary_beside_those_in_text_carries_each_type(proxy):
    # Both send the same statements, prepared at once: only the format asked for differs.
    engine = create_engine(proxy.url(SYNC[1]), connect_args={"prepare_threshold": 0})
    with engine.connect() as conn:
        for _ in range(3):
            for sql_type, value in VALUES.items():
                sent = json.dumps(value) if isinstance(value, dict) else value
                query = f"SELECT CAST(%s AS {sql_type}), NULL::{sql_type}"
                for binary in (True, False):
                    cursor = conn.connection.cursor(binary=binary)
                    assert cursor.execute(query, (sent,)).fetchone() == (value, None), sql_type
                    assert cursor.pgresult.fformat(0) == binary
            conn.rollback()
    engine.dispose()


# asyncpg prepares every statement; Debian's PgBouncer loses those in transaction mode.


@pytest.mark.targets("direct")
def test_an_async_orm_session_stores_and_finds(proxy):
    async def body(engine):
        async with engine.begin() as conn:
            await conn.run_sync(Base.metadata.create_all)
        sessions = async_sessionmaker(engine, expire_on_commit=False)
        async with sessions() as session, session.begin():
            session.add(Author(name="Ursula", books=[Book(title="A")]))
        async with sessions() as session:
            return (await session.scalars(select(Book.title).join(Author))).all()

    assert with_async_engine(proxy, body) == ["A"]


@pytest.mark.targets("direct")
def test_100_concurrent_async_sessions_get_their_own_answers(start):
    async def body(engine):
        async def work(number: int) -> int:
            async with engine.connect() as conn:
                return await conn.scalar(text("SELECT CAST(:n AS int)"), {"n": number})

        return await asyncio.gather(*(work(n) for n in range(100)))

    proxy = start(pool={"size": 3})
    assert with_async_engine(proxy, body, pool_size=20, max_overflow=10) == list(range(100))


@pytest.mark.targets("direct")
def test_an_async_engine_pre_pings_without_harm(start):
    async def body(engine):
        for number in range(5):
            async with engine.connect() as conn:
                assert await conn.scalar(text("SELECT CAST(:n AS int)"), {"n": number}) == number

    with_async_engine(start(pool={"size": 1}), body, pool_pre_ping=True)


@pytest.mark.targets("direct")
@pytest.mark.parametrize("scheme", ASYNC)
def test_an_async_session_carries_types_relations_and_savepoints(proxy, scheme):
    async def body(engine):
        async with engine.begin() as conn:
            await conn.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session, session.begin():
            session.add(Measure(**MEASURE))
            session.add(Author(name="Ursula", books=[Book(title="A"), Book(title="B")]))
            await session.flush()
            with pytest.raises(IntegrityError):
                async with session.begin_nested():
                    session.add(Author(name="Ursula"))
            await session.execute(update(Author).values(name="U. K."))
        async with AsyncSession(engine) as session:
            query = select(Author).options(selectinload(Author.books))
            author = (await session.scalars(query)).one()
            measure = (await session.scalars(select(Measure))).one()
            assert author.name == "U. K."
            assert sorted(book.title for book in author.books) == ["A", "B"]
            assert {name: getattr(measure, name) for name in MEASURE} == MEASURE

    with_async_engine(proxy, body, scheme)


@pytest.mark.targets("direct")
@pytest.mark.parametrize("scheme", ASYNC)
def test_an_async_bulk_insert_returns_its_keys_and_a_stream_reads_them(proxy, scheme):
    async def body(engine):
        async with engine.begin() as conn:
            await conn.run_sync(Base.metadata.create_all)
            rows = await conn.execute(
                insert(Author).returning(Author.id, sort_by_parameter_order=True),
                [{"name": f"author {i}"} for i in range(3000)],
            )
            keys = [row.id for row in rows]
        async with engine.connect() as conn:
            query = select(Author.id).order_by(Author.id).execution_options(yield_per=500)
            streamed = [row.id async for row in await conn.stream(query)]
        return keys == streamed, len(keys)

    assert with_async_engine(proxy, body, scheme) == (True, 3000)


@pytest.mark.targets("direct")
def test_an_async_rollback_undoes_the_insert(proxy):
    async def body(engine):
        async with engine.begin() as conn:
            await conn.run_sync(Base.metadata.create_all)
        with pytest.raises(RuntimeError):
            async with engine.begin() as conn:
                await conn.execute(Author.__table__.insert().values(name="nobody"))
                raise RuntimeError("changed my mind")
        async with engine.connect() as conn:
            return await conn.scalar(select(func.count()).select_from(Author))

    assert with_async_engine(proxy, body) == 0


@pytest.mark.targets("direct")
@pytest.mark.parametrize("how", ["text", "binary"])
@pytest.mark.parametrize("scheme", ASYNC)
def test_an_async_copy_belongs_to_the_block_around_it(proxy, observer, scheme, how):
    async def body(engine):
        async with engine.connect() as conn:
            for statement in TWO_TABLES.split(";"):
                await conn.execute(text(statement))
            await conn.commit()
            driver = await driver_of(conn)
            for end in (conn.rollback, conn.commit):
                # What starts a block is SQLAlchemy's own statement.
                assert await conn.scalar(text("SELECT count(*) FROM b")) == 0
                carried = io.BytesIO()
                await copy_out_async(driver, "a", how, carried)
                carried.seek(0)
                await copy_in_async(driver, "b", how, carried)
                assert await conn.scalar(text("SELECT count(*) FROM b")) == 20_000
                await end()
        return carried.getvalue()

    carried = with_async_engine(proxy, body, scheme)

    direct = io.BytesIO()
    observer.copy_expert(f"COPY a TO STDOUT (FORMAT {how})", direct)
    assert carried == direct.getvalue()
    observer.execute("SELECT count(*) FROM (TABLE a INTERSECT TABLE b) d")
    assert observer.fetchone() == (20_000,)


@pytest.mark.targets("direct")
@pytest.mark.parametrize("scheme", ASYNC)
def test_an_async_copy_that_fails_leaves_the_session_usable(proxy, scheme):
    async def body(engine):
        async with engine.connect() as conn:
            for statement in TWO_TABLES.split(";"):
                await conn.execute(text(statement))
            await conn.commit()
            driver = await driver_of(conn)

            async def fails(kind, work) -> Exception:
                with pytest.raises(kind) as caught:
                    async with conn.begin():
                        await work
                async with conn.begin():
                    assert await conn.scalar(text("SELECT count(*) FROM b")) == 0
                    assert await conn.scalar(text("SELECT count(*) FROM a")) == 20_000
                return caught.value

            for bad, state in REFUSED.items():
                rows = io.BytesIO(GOOD + bad + GOOD)
                error = await fails(Exception, copy_in_async(driver, "b", "text", rows))
                assert sqlstate(error) == state
                await fails(OSError, copy_in_async(driver, "b", "text", Torn(GOOD)))
                # asyncpg may wait for ever after this one, on a connection without a pooler, too.
                if scheme != ASYNC[0]:
                    await fails(OSError, copy_out_async(driver, "a", "text", Torn()))

    with_async_engine(proxy, body, scheme)


@pytest.mark.targets("direct")
def test_a_statement_cancelled_by_async_psycopg_is_57014_and_the_session_goes_on(proxy, observer):
    async def body(engine):
        async with engine.connect() as conn:
            driver = await driver_of(conn)
            for _ in range(3):
                asleep = asyncio.create_task(conn.execute(text(SLEEP)))
                await until_asleep(observer)
                await driver.cancel_safe()
                with pytest.raises(DBAPIError) as caught:
                    await asleep
                assert sqlstate(caught.value) == "57014"
                await conn.rollback()
                assert await conn.scalar(text("SELECT 7 FROM pg_sleep(0.1)")) == 7
                await conn.rollback()

    with_async_engine(proxy, body, ASYNC[1])


@pytest.mark.targets("direct")
def test_a_cancelled_task_of_asyncpg_fails_its_block_and_the_session_goes_on(proxy, observer):
    async def body(engine):
        async with engine.connect() as conn:
            driver = await driver_of(conn)
            for _ in range(3):
                assert await conn.scalar(text("SELECT 1")) == 1
                asleep = asyncio.create_task(driver.fetchval(SLEEP))
                await until_asleep(observer)
                asleep.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asleep
                # asyncpg keeps the error of the statement to itself; its block has failed.
                with pytest.raises(DBAPIError) as caught:
                    await conn.scalar(text("SELECT 1"))
                assert sqlstate(caught.value) == "25P02"
                assert not sleeping(observer)
                await conn.rollback()
                assert await conn.scalar(text("SELECT 7 FROM pg_sleep(0.1)")) == 7
                await conn.rollback()

    with_async_engine(proxy, body)


@pytest.mark.targets("direct")
@pytest.mark.parametrize("scheme", ASYNC)
def test_a_cancelled_task_ends_its_statement_and_the_engine_goes_on(proxy, observer, scheme):
    async def work(engine, sql):
        async with engine.connect() as conn:
            return await conn.scalar(text(sql))

    async def body(engine):
        for turn in range(5):
            asleep = asyncio.create_task(work(engine, SLEEP))
            await until_asleep(observer)
            asleep.cancel()
            # psycopg 3 cancels the statement and hands on what the server says of it.
            with pytest.raises((asyncio.CancelledError, DBAPIError)) as caught:
                await asleep
            assert caught.type is asyncio.CancelledError or sqlstate(caught.value) == "57014"
            assert await work(engine, f"SELECT {turn} FROM pg_sleep(0.1)") == turn
            assert not sleeping(observer)

    with_async_engine(proxy, body, scheme)


@pytest.mark.targets("direct")
def test_an_async_cursor_in_binary_carries_each_type(proxy):
    async def body(engine):
        async with engine.connect() as conn:
            cursor = (await driver_of(conn)).cursor(binary=True)
            for sql_type, value in VALUES.items():
                sent = json.dumps(value) if isinstance(value, dict) else value
                await cursor.execute(f"SELECT CAST(%s AS {sql_type}), NULL::{sql_type}", (sent,))
                assert await cursor.fetchone() == (value, None), sql_type
                assert cursor.pgresult.fformat(0) == 1

    with_async_engine(proxy, body, ASYNC[1])


async def driver_of(conn):
    """The driver's connection under an asynchronous one of SQLAlchemy's."""
    return (await conn.get_raw_connection()).driver_connection


async def until_asleep(observer) -> None:
    await asyncio.to_thread(wait_until, lambda: sleeping(observer), "the statement runs")


async def copy_out_async(driver, table: str, how: str, file) -> None:
    """Writes a table to a file as each driver has it."""
    if hasattr(driver, "copy_from_table"):
        await driver.copy_from_table(table, output=file, format=how)
        return
    async with driver.cursor().copy(f"COPY {table} TO STDOUT (FORMAT {how})") as copy:
        async for block in copy:
            file.write(block)


async def copy_in_async(driver, table: str, how: str, file) -> None:
    """Reads a file into a table as each driver has it."""
    if hasattr(driver, "copy_to_table"):
        await driver.copy_to_table(table, source=file, format=how)
        return
    async with driver.cursor().copy(f"COPY {table} FROM STDIN (FORMAT {how})") as copy:
        while block := file.read(8192):
            await copy.write(block)
