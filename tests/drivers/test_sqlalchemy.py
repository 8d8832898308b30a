"""SQLAlchemy 2 through a pool: ORM, its own pools on top of ours, sync and async."""


import asyncio

import pytest
from sqlalchemy import ForeignKey, create_engine, event, func, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from support.load import in_threads, run_async

SYNC = ["postgresql+psycopg2", "postgresql+psycopg"]


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


@pytest.fixture(params=SYNC)
def engine(request, proxy):
    engine = create_engine(proxy.url(request.param))
    yield engine
    engine.dispose()


def with_async_engine(proxy, body, **how):
    """Runs `body(engine)` on asyncpg."""
    async def run():
        engine = create_async_engine(proxy.url("postgresql+asyncpg"), **how)
        try:
            return await body(engine)
        finally:
            await engine.dispose()

    return run_async(run())


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


def test_the_inspector_finds_tables_columns_and_keys(engine):
    Base.metadata.create_all(engine)

    found = inspect(engine)

    assert set(found.get_table_names()) == {"author", "book"}
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
