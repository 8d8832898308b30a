import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Array;
import java.sql.BatchUpdateException;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;
import org.postgresql.PGStatement;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PGobject;

/** PgJDBC's checks. Where to connect is in PGHOST, PGPORT and so on. Prints a line for each check. */
public final class Matrix {
    private interface Body {
        void run(Connection conn) throws Exception;
    }

    private static boolean failed;

    public static void main(String[] args) {
        check("commits and rolls back as asked", Matrix::commitsAndRollsBack);
        check("a savepoint undoes what came after it, also after an error", Matrix::savepoint);
        check("errors have their SQLSTATE and the session goes on", Matrix::errors);
        check("autosave rolls back to before the statement that failed", Matrix::autosave, "autosave", "always");
        check("autosave is conservative about cached plans", Matrix::changedTable, "autosave", "conservative");
        check("a prepared statement run ten times becomes a server's and goes on", Matrix::preparedTenTimes);
        check("a statement prepared at once works in and across transactions", Matrix::preparedAtOnce, "prepareThreshold", "1");
        check("results forced into binary come back as they went", Matrix::types, "prepareThreshold", "-1");
        check("results in text come back as they went", Matrix::types, "binaryTransfer", "false");
        check("results in binary after the threshold come back as they went", Matrix::types, "prepareThreshold", "1");
        check("more statements than the driver caches are closed and prepared again", Matrix::evicts, "preparedStatementCacheQueries", "5", "prepareThreshold", "1");
        check("simple queries alone work too", Matrix::preparedTenTimes, "preferQueryMode", "simple");
        check("extended queries for prepared statements alone work too", Matrix::preparedTenTimes, "preferQueryMode", "extendedForPrepared");
        check("every query may be cached and prepared", Matrix::preparedTenTimes, "preferQueryMode", "extendedCacheEverything", "prepareThreshold", "1");
        check("a fetch size reads 100000 rows through a portal", Matrix::fetchSize);
        check("a fetch size of the connection, adapted as it goes", Matrix::fetchSize, "defaultRowFetchSize", "100", "adaptiveFetch", "true", "maxResultBuffer", "1M");
        check("COPY carries 20000 rows in and out", Matrix::copy);
        check("COPY in binary carries what COPY out gave", Matrix::copyBinary);
        check("a COPY that fails leaves the connection usable", Matrix::copyFails);
        check("a query timeout cancels the query and the connection goes on", Matrix::queryTimeout);
        check("cancel from another thread ends the query", Matrix::cancel);
        check("a batch of 5000 arrives whole or not at all", Matrix::batch);
        check("a batch rewritten as one insert arrives whole", Matrix::batch, "reWriteBatchedInserts", "true");
        check("generated keys come back, of batches too", Matrix::generatedKeys);
        check("a batch rewritten gives its keys", Matrix::generatedKeys, "reWriteBatchedInserts", "true");
        check("functions, procedures and ref cursors can be called", Matrix::calls);
        check("an updatable result set writes through", Matrix::updatable);
        check("a read-only connection is one in each transaction", Matrix::readOnly);
        check("an isolation level asked for at startup holds in each transaction", Matrix::serializable, "options", "-c default_transaction_isolation=serializable");
        check("the metadata of the database is read", Matrix::metadata);
        check("a large object written reads back", Matrix::largeObject);
        check("what is asked for at startup holds in each transaction", Matrix::startup, "ApplicationName", "matrix", "currentSchema", "pg_catalog");
        check("two connections with the same statement names stay apart", Matrix::sameNames, "prepareThreshold", "1");
        check("20 threads with connections of their own lose no update", Matrix::threads);
        System.exit(failed ? 1 : 0);
    }

    private static void check(String name, Body body, String... properties) {
        try (Connection conn = connect(properties)) {
            body.run(conn);
            System.out.println("ok " + name);
        } catch (Throwable error) {
            failed = true;
            System.out.println("FAILED " + name + ": " + error);
            error.printStackTrace(System.out);
        }
    }

    private static Connection connect(String... properties) throws SQLException {
        Properties all = new Properties();
        all.setProperty("user", System.getenv("PGUSER"));
        all.setProperty("password", System.getenv("PGPASSWORD"));
        all.setProperty("loginTimeout", "30");
        for (int i = 0; i < properties.length; i += 2) {
            all.setProperty(properties[i], properties[i + 1]);
        }
        String address = System.getenv("PGHOST") + ":" + System.getenv("PGPORT");
        return DriverManager.getConnection("jdbc:postgresql://" + address + "/" + System.getenv("PGDATABASE"), all);
    }

    private static void run(Connection conn, String sql) throws SQLException {
        try (Statement statement = conn.createStatement()) {
            statement.execute(sql);
        }
    }

    /** The first value of a query. */
    private static Object one(Connection conn, String sql, Object... args) throws SQLException {
        try (PreparedStatement statement = conn.prepareStatement(sql)) {
            for (int i = 0; i < args.length; i++) {
                statement.setObject(i + 1, args[i]);
            }
            ResultSet rows = statement.executeQuery();
            return rows.next() ? rows.getObject(1) : null;
        }
    }

    private static void same(Object wanted, Object found) {
        if (!Objects.deepEquals(wanted, found)) {
            throw new AssertionError("wanted " + wanted + ", found " + found);
        }
    }

    private static void refused(String state, Callable<?> body) throws Exception {
        try {
            body.call();
        } catch (SQLException error) {
            same(state, error.getSQLState());
            return;
        }
        throw new AssertionError("not refused with " + state);
    }

    private static void refused(Connection conn, String state, String sql) throws Exception {
        refused(state, () -> {
            run(conn, sql);
            return null;
        });
    }

    /** An empty table of that definition, in the place of one that an earlier check left. */
    private static void table(Connection conn, String name, String columns) throws SQLException {
        run(conn, "DROP TABLE IF EXISTS " + name);
        run(conn, "CREATE TABLE " + name + " (" + columns + ")");
    }

    private static void commitsAndRollsBack(Connection conn) throws Exception {
        table(conn, "moves", "id int");
        conn.setAutoCommit(false);
        for (int id = 1; id <= 3; id++) {
            run(conn, "INSERT INTO moves VALUES (" + id + ")");
            if (id == 2) {
                conn.rollback();
            } else {
                conn.commit();
            }
        }
        same("{1,3}", one(conn, "SELECT array_agg(id)::text FROM moves"));
        conn.commit();
    }

    private static void savepoint(Connection conn) throws Exception {
        table(conn, "saved", "id int");
        conn.setAutoCommit(false);
        run(conn, "INSERT INTO saved VALUES (1)");
        Savepoint here = conn.setSavepoint("here");
        refused("22012", () -> one(conn, "SELECT 1 / ?", 0));
        refused("25P02", () -> one(conn, "SELECT 1"));
        conn.rollback(here);
        run(conn, "INSERT INTO saved VALUES (2)");
        conn.releaseSavepoint(here);
        conn.commit();
        same(2L, one(conn, "SELECT count(*) FROM saved"));
        conn.commit();
    }

    private static void errors(Connection conn) throws Exception {
        table(conn, "keyed", "id int PRIMARY KEY");
        for (int turn = 0; turn < 10; turn++) {
            int number = turn;
            refused(conn, "42P01", "SELECT * FROM nowhere");
            refused(conn, "42601", "SELEC 1");
            one(conn, "INSERT INTO keyed VALUES (?) RETURNING id", number);
            refused("23505", () -> one(conn, "INSERT INTO keyed VALUES (?) RETURNING id", number));
            same(number, one(conn, "SELECT ?::int", number));
        }
    }

    private static void autosave(Connection conn) throws Exception {
        table(conn, "saved", "id int");
        conn.setAutoCommit(false);
        for (int turn = 0; turn < 10; turn++) {
            one(conn, "INSERT INTO saved VALUES (?) RETURNING id", turn);
            refused("22012", () -> one(conn, "SELECT 1 / ?", 0));
        }
        conn.commit();
        same(10L, one(conn, "SELECT count(*) FROM saved"));
        conn.commit();
    }

    private static void changedTable(Connection conn) throws Exception {
        run(conn, "DROP TABLE IF EXISTS changing");
        run(conn, "CREATE TABLE changing AS SELECT 1 AS a");
        try (PreparedStatement read = conn.prepareStatement("SELECT * FROM changing WHERE a = ?")) {
            for (int turn = 0; turn < 10; turn++) {
                same(1, columns(read));
            }
            run(conn, "ALTER TABLE changing ADD COLUMN b int DEFAULT 2");
            conn.setAutoCommit(false);
            for (int turn = 0; turn < 10; turn++) {
                same(2, columns(read));
                conn.commit();
            }
        }
    }

    private static int columns(PreparedStatement read) throws SQLException {
        read.setInt(1, 1);
        ResultSet rows = read.executeQuery();
        return rows.getMetaData().getColumnCount();
    }

    private static void preparedTenTimes(Connection conn) throws Exception {
        try (PreparedStatement add = conn.prepareStatement("SELECT ?::int + ?::int");
                PreparedStatement join = conn.prepareStatement("SELECT ? || '!'")) {
            for (int turn = 0; turn < 10; turn++) {
                conn.setAutoCommit(turn % 3 != 0);
                add.setInt(1, turn);
                add.setInt(2, 1);
                ResultSet sum = add.executeQuery();
                sum.next();
                same(turn + 1, sum.getInt(1));
                join.setString(1, "turn " + turn);
                ResultSet text = join.executeQuery();
                text.next();
                same("turn " + turn + "!", text.getString(1));
                if (turn % 3 == 0) {
                    conn.commit();
                }
            }
            String mode = conn.unwrap(PGConnection.class).getPreferQueryMode().value();
            if (!mode.equals("simple")) {
                same(true, add.unwrap(PGStatement.class).isUseServerPrepare());
            }
        }
    }

    private static void preparedAtOnce(Connection conn) throws Exception {
        List<PreparedStatement> statements = new ArrayList<>();
        for (int n = 0; n < 150; n++) {
            statements.add(conn.prepareStatement("SELECT ?::int + " + n));
        }
        for (int round = 0; round < 3; round++) {
            conn.setAutoCommit(round == 1);
            for (int n = 0; n < statements.size(); n++) {
                statements.get(n).setInt(1, n);
                ResultSet rows = statements.get(n).executeQuery();
                rows.next();
                same(2 * n, rows.getInt(1));
                if (round != 1 && n % 20 == 0) {
                    conn.commit();
                }
            }
            if (round != 1) {
                conn.rollback();
            }
        }
        for (PreparedStatement statement : statements) {
            statement.close();
        }
    }

    private static void evicts(Connection conn) throws Exception {
        for (int round = 0; round < 5; round++) {
            for (int n = 0; n < 20; n++) {
                same(2 * n, one(conn, "SELECT ?::int + " + n, n));
            }
        }
    }

    private static void types(Connection conn) throws Exception {
        BigDecimal numeric = new BigDecimal("-12345678901234567890.123456789012345678900");
        byte[] bytes = new byte[4096];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) i;
        }
        UUID uuid = UUID.fromString("0b6d2f9c-8a4e-4d5f-9d0e-1f2a3b4c5d6e");
        OffsetDateTime at = OffsetDateTime.parse("2038-01-19T03:14:08.000001Z");
        LocalDate day = LocalDate.of(1999, 12, 31);
        PGobject json = new PGobject();
        json.setType("jsonb");
        json.setValue("{\"a\": [1, 2.5, null, \"ü\"]}");
        String sql = "SELECT ?::bool, ?::int, ?::int8, ?::float8, ?::numeric, ?::text, ?::bytea, ?::uuid,"
            + " ?::timestamptz, ?::date, ?::jsonb, ?::int4[], ?::text[], ?::text";
        try (PreparedStatement statement = conn.prepareStatement(sql)) {
            for (int turn = 0; turn < 10; turn++) {
                Object[] sent = {
                    true, Integer.MIN_VALUE, Long.MAX_VALUE, 0.1 + 0.2, numeric, "naïve 漢字 '\\", bytes, uuid, at, day, json,
                    conn.createArrayOf("int4", new Integer[] {1, null, 3}),
                    conn.createArrayOf("text", new String[] {"a", "b,c", "\"quoted\"", null}),
                };
                for (int i = 0; i < sent.length; i++) {
                    statement.setObject(i + 1, sent[i]);
                }
                statement.setNull(sent.length + 1, Types.VARCHAR);
                ResultSet row = statement.executeQuery();
                row.next();
                for (int i = 0; i < 8; i++) {
                    same(sent[i], row.getObject(i + 1));
                }
                same(at, row.getObject(9, OffsetDateTime.class));
                same(day, row.getObject(10, LocalDate.class));
                same(json.getValue(), row.getString(11));
                same(((Array) sent[11]).getArray(), row.getArray(12).getArray());
                same(((Array) sent[12]).getArray(), row.getArray(13).getArray());
                same(null, row.getObject(14));
            }
        }
    }

    private static void fetchSize(Connection conn) throws Exception {
        conn.setAutoCommit(false);
        for (int turn = 0; turn < 2; turn++) {
            try (PreparedStatement statement = conn.prepareStatement("SELECT n FROM generate_series(1, ?) n")) {
                statement.setFetchSize(7000);
                statement.setInt(1, 100_000);
                ResultSet rows = statement.executeQuery();
                int seen = 0;
                while (rows.next()) {
                    seen++;
                    same(seen, rows.getInt(1));
                    if (seen % 30_000 == 0) {
                        same(seen, one(conn, "SELECT ?::int", seen));
                    }
                }
                same(100_000, seen);
            }
            try (Statement left = conn.createStatement()) {
                left.setFetchSize(10);
                left.executeQuery("SELECT generate_series(1, 100000)").next();
            }
            conn.commit();
        }
    }

    private static void copy(Connection conn) throws Exception {
        table(conn, "copied", "id int, name text");
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < 20_000; i++) {
            lines.append(i).append("\trow ").append(i).append('\n');
        }
        CopyManager copy = conn.unwrap(PGConnection.class).getCopyAPI();
        same(20_000L, copy.copyIn("COPY copied FROM STDIN", new StringReader(lines.toString())));
        StringWriter out = new StringWriter();
        copy.copyOut("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT", out);
        same(lines.toString(), out.toString());
    }

    private static void copyBinary(Connection conn) throws Exception {
        run(conn, "DROP TABLE IF EXISTS a, b");
        run(conn, "CREATE TABLE a AS SELECT n, repeat('x', n % 70) AS t FROM generate_series(1, 20000) n");
        run(conn, "CREATE TABLE b (n int, t text)");
        CopyManager copy = conn.unwrap(PGConnection.class).getCopyAPI();
        ByteArrayOutputStream carried = new ByteArrayOutputStream();
        copy.copyOut("COPY a TO STDOUT (FORMAT binary)", carried);
        copy.copyIn("COPY b FROM STDIN (FORMAT binary)", new ByteArrayInputStream(carried.toByteArray()));
        same(20_000L, one(conn, "SELECT count(*) FROM (TABLE a INTERSECT TABLE b) s"));
    }

    private static void copyFails(Connection conn) throws Exception {
        table(conn, "numbers", "id int");
        CopyManager copy = conn.unwrap(PGConnection.class).getCopyAPI();
        String bad = "1\n".repeat(50_000) + "not a number\n" + "2\n".repeat(50_000);
        for (int turn = 0; turn < 3; turn++) {
            refused("22P02", () -> copy.copyIn("COPY numbers FROM STDIN", new StringReader(bad)));
            var given = copy.copyIn("COPY numbers FROM STDIN");
            given.writeToCopy(new byte[] {'1', '\n'}, 0, 2);
            given.cancelCopy();
            same(0L, one(conn, "SELECT count(*) FROM numbers"));
        }
    }

    private static void queryTimeout(Connection conn) throws Exception {
        for (int turn = 0; turn < 3; turn++) {
            try (Statement statement = conn.createStatement()) {
                statement.setQueryTimeout(1);
                refused("57014", () -> statement.executeQuery("SELECT pg_sleep(30)"));
            }
            same(turn, one(conn, "SELECT ?::int", turn));
        }
    }

    private static void cancel(Connection conn) throws Exception {
        ExecutorService other = Executors.newSingleThreadExecutor();
        for (int turn = 0; turn < 3; turn++) {
            try (Statement statement = conn.createStatement()) {
                // A cancel that comes before the query has begun does nothing, so it is asked for again.
                Future<?> again = other.submit(() -> {
                    while (!Thread.interrupted()) {
                        Thread.sleep(200);
                        statement.cancel();
                    }
                    return null;
                });
                refused("57014", () -> statement.executeQuery("SELECT pg_sleep(30)"));
                again.cancel(true);
            }
            Thread.sleep(300);
            same(turn, one(conn, "SELECT ?::int", turn));
        }
        other.shutdownNow();
        other.awaitTermination(10, TimeUnit.SECONDS);
    }

    private static void batch(Connection conn) throws Exception {
        table(conn, "batched", "id int PRIMARY KEY, name text");
        try (PreparedStatement insert = conn.prepareStatement("INSERT INTO batched VALUES (?, ?)")) {
            conn.setAutoCommit(false);
            addBatch(insert, 0, 5000);
            same(5000, insert.executeBatch().length);
            conn.commit();
            addBatch(insert, 5000, 5000);
            addBatch(insert, 4999, 1);
            try {
                insert.executeBatch();
                throw new AssertionError("a duplicate was taken");
            } catch (BatchUpdateException error) {
                same("23505", error.getSQLState());
            }
            conn.rollback();
        }
        same(5000L, one(conn, "SELECT count(DISTINCT name) FROM batched"));
        conn.commit();
    }

    private static void addBatch(PreparedStatement insert, int first, int count) throws SQLException {
        for (int id = first; id < first + count; id++) {
            insert.setInt(1, id);
            insert.setString(2, "row " + id);
            insert.addBatch();
        }
    }

    private static void generatedKeys(Connection conn) throws Exception {
        table(conn, "keys", "id serial, name text");
        String sql = "INSERT INTO keys (name) VALUES (?)";
        try (PreparedStatement insert = conn.prepareStatement(sql, Statement.RETURN_GENERATED_KEYS)) {
            for (int turn = 0; turn < 10; turn++) {
                insert.setString(1, "single");
                insert.executeUpdate();
                ResultSet key = insert.getGeneratedKeys();
                key.next();
                same(turn + 1, key.getInt("id"));
            }
            for (int n = 0; n < 500; n++) {
                insert.setString(1, "batch " + n);
                insert.addBatch();
            }
            insert.executeBatch();
            ResultSet keys = insert.getGeneratedKeys();
            for (int n = 0; n < 500; n++) {
                keys.next();
                same(n + 11, keys.getInt("id"));
            }
        }
    }

    private static void calls(Connection conn) throws Exception {
        run(conn, "CREATE OR REPLACE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n'");
        run(conn, "CREATE OR REPLACE FUNCTION rows_of() RETURNS refcursor LANGUAGE plpgsql AS"
            + " $$ DECLARE c refcursor; BEGIN OPEN c FOR SELECT generate_series(1, 10); RETURN c; END $$");
        run(conn, "CREATE OR REPLACE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$");
        for (int turn = 0; turn < 10; turn++) {
            try (CallableStatement call = conn.prepareCall("{ ? = call twice(?) }")) {
                call.registerOutParameter(1, Types.INTEGER);
                call.setInt(2, turn);
                call.execute();
                same(2 * turn, call.getInt(1));
            }
            run(conn, "CALL commits()");
            conn.setAutoCommit(false);
            try (CallableStatement call = conn.prepareCall("{ ? = call rows_of() }")) {
                call.registerOutParameter(1, Types.REF_CURSOR);
                call.execute();
                ResultSet rows = (ResultSet) call.getObject(1);
                int seen = 0;
                while (rows.next()) {
                    seen++;
                }
                same(10, seen);
            }
            conn.commit();
            conn.setAutoCommit(true);
        }
    }

    private static void updatable(Connection conn) throws Exception {
        table(conn, "updated", "id int PRIMARY KEY, n int");
        run(conn, "INSERT INTO updated SELECT i, 0 FROM generate_series(1, 20) i");
        try (Statement statement = conn.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
            ResultSet rows = statement.executeQuery("SELECT id, n FROM updated ORDER BY id");
            while (rows.next()) {
                rows.updateInt("n", rows.getInt("id") * 10);
                rows.updateRow();
            }
            rows.absolute(7);
            same(70, rows.getInt("n"));
        }
        same(2100L, one(conn, "SELECT sum(n) FROM updated"));
    }

    private static void readOnly(Connection conn) throws Exception {
        table(conn, "untouched", "id int");
        conn.setReadOnly(true);
        conn.setAutoCommit(false);
        for (int turn = 0; turn < 3; turn++) {
            refused(conn, "25006", "INSERT INTO untouched VALUES (1)");
            conn.rollback();
            try (Connection other = connect()) {
                run(other, "INSERT INTO untouched VALUES (1)");
            }
        }
    }

    private static void serializable(Connection conn) throws Exception {
        for (int turn = 0; turn < 5; turn++) {
            same(Connection.TRANSACTION_SERIALIZABLE, conn.getTransactionIsolation());
            conn.setAutoCommit(false);
            same("serializable", one(conn, "SELECT current_setting('transaction_isolation')"));
            conn.commit();
            conn.setAutoCommit(true);
        }
    }

    private static void metadata(Connection conn) throws Exception {
        table(conn, "described", "id int PRIMARY KEY, name text NOT NULL");
        for (int turn = 0; turn < 6; turn++) {
            ResultSet columns = conn.getMetaData().getColumns(null, "public", "described", null);
            columns.next();
            same("id", columns.getString("COLUMN_NAME"));
            columns.next();
            same("NO", columns.getString("IS_NULLABLE"));
            ResultSet keys = conn.getMetaData().getPrimaryKeys(null, "public", "described");
            keys.next();
            same("id", keys.getString("COLUMN_NAME"));
        }
    }

    private static void largeObject(Connection conn) throws Exception {
        byte[] content = new byte[100_000];
        Arrays.fill(content, (byte) 0xfe);
        conn.setAutoCommit(false);
        var objects = conn.unwrap(PGConnection.class).getLargeObjectAPI();
        long oid = objects.createLO();
        var written = objects.open(oid);
        written.write(content);
        written.close();
        conn.commit();
        var read = objects.open(oid);
        same(content, read.read(content.length + 1));
        read.close();
        objects.delete(oid);
        conn.commit();
    }

    private static void startup(Connection conn) throws Exception {
        for (int turn = 0; turn < 10; turn++) {
            same("matrix", one(conn, "SELECT current_setting('application_name')"));
            same("pg_catalog", one(conn, "SELECT current_setting('search_path')"));
        }
    }

    private static void sameNames(Connection alice) throws Exception {
        try (Connection bob = connect("prepareThreshold", "1")) {
            for (int turn = 0; turn < 20; turn++) {
                same(turn + 1, one(alice, "SELECT ?::int + 1", turn));
                same(turn + "!", one(bob, "SELECT ?::text || '!'", "" + turn));
            }
        }
    }

    private static void threads(Connection conn) throws Exception {
        run(conn, "DROP TABLE IF EXISTS counter");
        run(conn, "CREATE TABLE counter AS SELECT 0 AS n");
        ExecutorService threads = Executors.newFixedThreadPool(20);
        List<Future<?>> all = new ArrayList<>();
        for (int thread = 0; thread < 20; thread++) {
            all.add(threads.submit(() -> {
                try (Connection own = connect()) {
                    own.setAutoCommit(false);
                    for (int turn = 0; turn < 10; turn++) {
                        one(own, "SELECT n FROM counter WHERE n >= ? FOR UPDATE", 0);
                        run(own, "UPDATE counter SET n = n + 1");
                        own.commit();
                    }
                }
                return null;
            }));
        }
        for (Future<?> one : all) {
            one.get(60, TimeUnit.SECONDS);
        }
        threads.shutdown();
        same(200, one(conn, "SELECT n FROM counter"));
    }
}
