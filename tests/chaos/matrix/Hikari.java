import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.postgresql.PGConnection;

/**
 * Threads that write to a ledger by connections of a HikariCP pool with its defaults, until a line comes on standard
 * input. Where to connect is in PGHOST and so on. Prints `ready` when all have written, and for each transaction
 * `done` or the SQLSTATE of its error, when it began and ended, its row, its thread, and the number of its connection.
 */
public final class Hikari {
    private static final int THREADS = 10;
    private static final int ROWS_UNTIL_READY = 20;
    private static final AtomicInteger rows = new AtomicInteger();
    private static volatile boolean isOver;

    public static void main(String[] args) throws Exception {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl("jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"));
        config.setUsername(System.getenv("PGUSER"));
        config.setPassword(System.getenv("PGPASSWORD"));
        config.setMaximumPoolSize(THREADS);
        CountDownLatch ready = new CountDownLatch(THREADS);
        try (HikariDataSource pool = new HikariDataSource(config)) {
            Thread[] threads = new Thread[THREADS];
            for (int i = 0; i < THREADS; i++) {
                int number = i;
                threads[i] = new Thread(() -> write(pool, number, ready));
                threads[i].start();
            }
            ready.await();
            say("ready");
            System.in.read();
            isOver = true;
            for (Thread thread : threads) {
                thread.join();
            }
        }
    }

    private static void write(HikariDataSource pool, int number, CountDownLatch ready) {
        for (int turn = 0; !isOver; turn++) {
            int row = rows.incrementAndGet();
            long begun = System.currentTimeMillis();
            String outcome;
            int connection = 0;
            try (Connection conn = pool.getConnection()) {
                connection = conn.unwrap(PGConnection.class).getBackendPID();
                insert(conn, row, number, turn % 2 == 0);
                outcome = "done";
            } catch (SQLException error) {
                outcome = String.valueOf(error.getSQLState());
            }
            say(outcome + " " + begun + " " + System.currentTimeMillis() + " " + row + " " + number + " " + connection);
            if (turn == ROWS_UNTIL_READY) {
                ready.countDown();
            }
        }
    }

    private static void insert(Connection conn, int row, int number, boolean inBlock) throws SQLException {
        conn.setAutoCommit(!inBlock);
        try (PreparedStatement statement = conn.prepareStatement("INSERT INTO ledger VALUES (?, ?)")) {
            statement.setInt(1, row);
            statement.setInt(2, number);
            statement.executeUpdate();
        }
        if (inBlock) {
            conn.commit();
        }
    }

    private static synchronized void say(String line) {
        System.out.println(line);
    }
}
