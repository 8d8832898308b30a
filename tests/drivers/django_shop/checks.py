"""What a site does with its database, check by check; each leaves the tables as it found them.

Run as `python -m django_shop.checks DRIVER CHECK…` with the database in DJANGO_SHOP.
"""

from __future__ import annotations

import datetime
import io
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

DRIVER = sys.argv[1]
if DRIVER == "psycopg2":
    # Django takes psycopg 3 where there is one.
    sys.modules["psycopg"] = None

import django  # noqa: E402

django.setup()

from django.core import signals  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import (  # noqa: E402
    DataError, IntegrityError, InternalError, OperationalError, ProgrammingError, connection,
    transaction,
)
from django.db.models import Avg, Count, F, Q  # noqa: E402

from django_shop.models import Customer, Order, Product  # noqa: E402

PRICE = Decimal("12345678901234567890.0123456789")


def migrates_forward_back_and_forward() -> None:
    call_command("migrate", verbosity=0)
    call_command("migrate", "django_shop", "zero", verbosity=0)
    assert not [t for t in connection.introspection.table_names() if "shop" in t]
    call_command("migrate", verbosity=0)
    assert Customer.objects.get().name == "the first"
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    Customer.objects.all().delete()


def stores_finds_changes_and_deletes() -> None:
    ursula = Customer.objects.create(name="Ursula")
    goods = [Product.objects.create(name=f"p{n}", price=n, stock=n) for n in range(5)]
    order = Order.objects.create(customer=ursula)
    order.products.set(goods[:3])

    found = Order.objects.select_related("customer").prefetch_related("products").get()
    assert found.customer.name == "Ursula" and found.products.count() == 3
    assert Customer.objects.annotate(n=Count("orders__products")).get().n == 3
    assert Product.objects.filter(Q(stock__gt=3) | Q(name="p0")).count() == 2
    assert Product.objects.aggregate(Avg("price"))["price__avg"] == 2
    assert Product.objects.update(stock=F("stock") + 1) == 5
    raw = Product.objects.raw("SELECT * FROM django_shop_product WHERE name = %s", ["p4"])
    assert raw[0].stock == 5
    assert Product.objects.values_list("stock", flat=True).order_by("-stock").first() == 5
    assert Customer.objects.all().delete()[0] == 5


def carries_each_kind_of_column() -> None:
    wanted = {
        "key": uuid.uuid4(), "name": "naïve 漢字 '\\", "price": PRICE, "stock": 2**31 - 1,
        "since": datetime.datetime(2038, 1, 19, 3, 14, 8, 1, datetime.timezone.utc),
        "day": datetime.date(1582, 10, 15), "lasts": datetime.timedelta(days=3, microseconds=5),
        "tags": ["a", "b,c", '"'], "details": {"a": [1, None, {"b": "ü"}]},
        "picture": bytes(range(256)),
    }
    Product.objects.create(**wanted)
    found = Product.objects.get(details__a__2__b="ü", tags__contains=["b,c"])
    seen = {name: getattr(found, name) for name in wanted}
    assert {**seen, "picture": bytes(seen["picture"])} == wanted
    assert Product.objects.filter(picture__isnull=True).count() == 0


def commits_and_rolls_back_as_its_blocks_say() -> None:
    told = []
    with transaction.atomic():
        Customer.objects.create(name="outer")
        transaction.on_commit(lambda: told.append("committed"))
        for name in ("kept", "outer"):
            try:
                with transaction.atomic():
                    Customer.objects.create(name=f"before {name}")
                    Customer.objects.create(name=name)
            except IntegrityError as error:
                assert sqlstate(error) == "23505"
    assert told == ["committed"]
    try:
        with transaction.atomic():
            Customer.objects.create(name="undone")
            raise KeyError
    except KeyError:
        pass
    names = set(Customer.objects.values_list("name", flat=True))
    assert names == {"outer", "kept", "before kept"}, names


def goes_on_after_errors() -> None:
    for _ in range(5):
        refuses(ProgrammingError, "42P01", "SELECT * FROM nowhere")
        refuses(DataError, "22012", "SELECT 1 / 0")
        refuses(IntegrityError, "23514",
                "INSERT INTO django_shop_product (key, name, price, stock, tags, details)"
                " VALUES (gen_random_uuid(), '', 0, -1, '{}', '{}')")
        with transaction.atomic():
            run("SELECT set_config('statement_timeout', '50ms', true)")
            refuses(OperationalError, "57014", "SELECT pg_sleep(30)")
            refuses(InternalError, "25P02", "SELECT 1")
            transaction.set_rollback(True)
        assert run("SELECT 7 FROM pg_sleep(0.1)") == 7


def inserts_and_updates_in_bulk() -> None:
    made = Customer.objects.bulk_create([Customer(name=f"c{n}") for n in range(2500)], 1000)
    assert len({customer.pk for customer in made}) == 2500
    for customer in made:
        customer.name += "!"
    assert Customer.objects.bulk_update(made, ["name"], 1000) == 2500
    again = [Customer(name=f"c{n}!") for n in range(10)]
    Customer.objects.bulk_create(again, ignore_conflicts=True)
    Customer.objects.bulk_create(again, update_conflicts=True, unique_fields=["name"],
                                 update_fields=["name"])
    assert Customer.objects.filter(name__endswith="!").count() == 2500
    assert Customer.objects.update_or_create(name="c7!", defaults={"name": "seven"})[1] is False
    assert Customer.objects.get_or_create(name="seven")[1] is False


def locks_rows_so_that_no_update_is_lost() -> None:
    key = Product.objects.create(name="scarce", price=1, stock=0).pk

    def add_one(_call: int) -> None:
        try:
            with transaction.atomic():
                product = Product.objects.select_for_update().get(pk=key)
                product.stock += 1
                product.save(update_fields=["stock"])
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(add_one, range(60)))
    assert Product.objects.get(pk=key).stock == 60
    with transaction.atomic():
        assert Product.objects.select_for_update(skip_locked=True).count() == 1
        assert Product.objects.select_for_update(nowait=True, of=("self",)).get(pk=key)


def serves_requests_in_threads_that_keep_their_connections() -> None:
    def request(number: int) -> int:
        signals.request_started.send(sender=None, environ={})
        try:
            with transaction.atomic():
                Customer.objects.create(name=f"visitor {number}")
            return run("SELECT %s", number)
        finally:
            signals.request_finished.send(sender=None)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(request, range(120))) == list(range(120))
        # The threads end with the executor: what they kept has to be closed by them.
        list(threads.map(lambda _: connection.close(), range(40)))
    assert Customer.objects.count() == 120


def iterates_in_a_block() -> None:
    Customer.objects.bulk_create([Customer(name=f"c{n}") for n in range(5000)])
    with transaction.atomic():
        names = [customer.name for customer in Customer.objects.order_by("pk").iterator(500)]
        assert names == [f"c{n}" for n in range(5000)]
        many = "SELECT n AS id, 'x' || n AS name FROM generate_series(1, 100000) n"
        assert sum(customer.id for customer in Customer.objects.raw(many).iterator()) == 5000050000


def iterates_without_a_block() -> None:
    Customer.objects.bulk_create([Customer(name=f"c{n}") for n in range(5000)])
    for _ in range(3):
        names = [customer.name for customer in Customer.objects.order_by("pk").iterator(500)]
        assert names == [f"c{n}" for n in range(5000)]


def is_told_that_its_cursor_is_gone_without_a_block() -> None:
    """Outside a block Django declares its server-side cursor WITH HOLD: state of a session."""
    Customer.objects.bulk_create([Customer(name=f"c{n}") for n in range(5000)])
    for _ in range(3):
        try:
            list(Customer.objects.iterator(500))
        except Exception as error:
            # psycopg2's comes as it is: Django's iterator closes the cursor, which fails again.
            assert sqlstate(error) == "34000", error
        else:
            raise AssertionError("the cursor should have ended with its transaction")
        assert Customer.objects.count() == 5000


LINES = "".join(f"{n}\tcustomer {n}\n" for n in range(2000)).encode()
BINARY = "(FORMAT BINARY)"
BINARY_SIGNATURE = bytes.fromhex("50 47 43 4f 50 59 0a ff 0d 0a 00")


def copy_in(sql: str, data: bytes) -> None:
    """COPY FROM STDIN by the driver's own means."""
    with connection.cursor() as cursor:
        if DRIVER == "psycopg2":
            cursor.copy_expert(sql, io.BytesIO(data))
        else:
            with cursor.copy(sql) as copy:
                copy.write(data)


def copy_out(sql: str) -> bytes:
    with connection.cursor() as cursor:
        if DRIVER == "psycopg2":
            out = io.BytesIO()
            cursor.copy_expert(sql, out)
            return out.getvalue()
        with cursor.copy(sql) as copy:
            return b"".join(bytes(piece) for piece in copy)


def copies_rows_in_and_out() -> None:
    with transaction.atomic():
        run_alone("CREATE TEMPORARY TABLE copied (n int, t text) ON COMMIT DROP")
        copy_in("COPY copied FROM STDIN", LINES)
        assert run("SELECT count(*) FROM copied") == 2000
        assert copy_out("COPY (SELECT * FROM copied ORDER BY n) TO STDOUT") == LINES


def copies_rows_in_binary() -> None:
    rows = [(n, "ü" * (n % 70)) for n in range(20_000)]
    select = "SELECT n, repeat('ü', n % 70) AS t FROM generate_series(0, 19999) n"
    with transaction.atomic():
        run_alone("CREATE TEMPORARY TABLE copied (n int, t text) ON COMMIT DROP")
        data = copy_out(f"COPY ({select}) TO STDOUT {BINARY}")
        assert data.startswith(BINARY_SIGNATURE), data[:11]
        copy_in(f"COPY copied FROM STDIN {BINARY}", data)
        assert run(f"SELECT count(*) FROM ({select} INTERSECT TABLE copied) s") == 20_000
        assert copy_out(f"COPY (SELECT * FROM copied ORDER BY n) TO STDOUT {BINARY}") == data
        if DRIVER == "psycopg":
            run_alone("TRUNCATE copied")
            with connection.cursor() as cursor, cursor.copy(f"COPY copied FROM STDIN {BINARY}") as copy:
                copy.set_types(["int4", "text"])
                for row in rows:
                    copy.write_row(row)
            with connection.cursor() as cursor, cursor.copy(f"COPY copied TO STDOUT {BINARY}") as copy:
                copy.set_types(["int4", "text"])
                assert list(copy.rows()) == rows


def goes_on_after_a_copy_that_fails() -> None:
    with transaction.atomic():
        run_alone("CREATE TEMPORARY TABLE copied (n int, t text) ON COMMIT DROP")
        try:
            with transaction.atomic():
                copy_in("COPY copied FROM STDIN", LINES + b"no number\tx\n")
        except connection.Database.DataError as error:
            # Django passes the driver's errors on here as they are.
            assert sqlstate(error) == "22P02", error
        else:
            raise AssertionError("copied")
        assert run("SELECT count(*) FROM copied") == 0
        copy_in("COPY copied FROM STDIN", LINES)
        assert run("SELECT count(*) FROM copied") == 2000


def cancels_a_statement_from_another_thread() -> None:
    connection.ensure_connection()
    driver, is_over = connection.connection, threading.Event()

    def cancel() -> None:
        # One that comes before the statement has begun does nothing, so it is asked for again.
        while not is_over.wait(0.05):
            driver.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        refuses(OperationalError, "57014", "SELECT pg_sleep(30)")
    finally:
        is_over.set()
        thread.join()
    assert run("SELECT 'next'") == "next"


def reads_results_in_binary() -> None:
    connection.ensure_connection()
    rows = []
    for is_binary in (False, True):
        with connection.connection.cursor(binary=is_binary) as cursor:
            cursor.execute("SELECT 7, 1.5::numeric, date '2038-01-19', array[1, 2], '\\x00ff'::bytea")
            assert cursor.pgresult.fformat(0) == int(is_binary)
            rows.append(cursor.fetchone())
    expected = (7, Decimal("1.5"), datetime.date(2038, 1, 19), [1, 2], b"\0\xff")
    assert rows == [expected, expected]


def has_the_time_zone_of_its_settings() -> None:
    for _ in range(5):
        assert run("SHOW TimeZone") == connection.timezone_name == "Asia/Tokyo"
        connection.close()


def is_serializable_in_each_transaction() -> None:
    for _ in range(3):
        with transaction.atomic():
            assert run("SHOW transaction_isolation") == "serializable"


def has_the_role_it_asked_for_at_startup() -> None:
    for _ in range(5):
        assert run("SELECT current_user::text") == "other_role"
        with transaction.atomic():
            assert run("SELECT current_user::text") == "other_role"


def has_lost_the_role_that_it_assumed() -> None:
    assert run("SELECT current_user::text") == connection.settings_dict["USER"]


def run(sql: str, *args):
    """The first value of a query."""
    with connection.cursor() as cursor:
        cursor.execute(sql, args or None)
        return cursor.fetchone()[0]


def run_alone(sql: str) -> None:
    """Runs what gives no rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql)


def refuses(kind: type[Exception], state: str, sql: str) -> None:
    """Runs what has to fail."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
    except kind as error:
        assert sqlstate(error) == state, error
    else:
        raise AssertionError(f"no {kind.__name__}: {sql}")


def sqlstate(error: Exception) -> str:
    """psycopg2 and psycopg 3 have different names for it."""
    cause = error.__cause__ or error
    return getattr(cause, "sqlstate", None) or cause.pgcode


def main() -> None:
    assert connection.Database.__name__ == DRIVER
    for name in sys.argv[2:]:
        globals()[name]()
        print("ok", name, flush=True)
        if connection.introspection.table_names():
            for model in (Order, Product, Customer):
                model.objects.all().delete()


main()
