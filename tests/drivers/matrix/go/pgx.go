// pgx's checks, with its pool and through database/sql. Where to connect is in PGHOST, PGPORT and so on.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"sync"
	"testing/iotest"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgtype"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
	"github.com/jackc/pgx/v4/stdlib"
)

func main() {
	runAll([]check{
		{"commits and rolls back as asked", onConn("", commitsAndRollsBack)},
		{"a nested transaction undoes its own part", onConn("", savepoint)},
		{"errors have their SQLSTATE and the session goes on", onConn("", sqlstates)},
		{"statements prepared by the driver's cache are used again", onConn("", cachedStatements)},
		{"statements are only described when the cache is told so", onConn("statement_cache_mode=describe", cachedStatements)},
		{"more statements than the cache holds are prepared again", onConn("statement_cache_capacity=5", cachedStatements)},
		{"named statements work in and across transactions", onConn("", namedStatements)},
		{"a cached statement survives a change of its table", onConn("", changedTable)},
		{"a batch runs in order, an error fails what follows", onConn("", batch)},
		{"the simple protocol works too", onConn("", simpleProtocol)},
		{"COPY carries 20000 rows in and out", onConn("", copies)},
		{"a COPY that fails leaves the connection usable", onConn("", copyFails)},
		{"a COPY that fails in the middle leaves its transaction and its connection usable", onConn("", copyFailsMidway)},
		{"a COPY given up in the middle leaves nothing, and the pool gets another connection", copyLeft},
		{"a cancel request ends the query and the connection goes on", onConn("", cancels)},
		{"a context that ends cancels the query, and the pool gets another connection", cancelledContext},
		{"100000 rows come at once and through a cursor", onConn("", manyRows)},
		{"rows left in the middle leave the connection usable", onConn("", leftInTheMiddle)},
		{"a value of each type comes back as it went, in binary and in text", onConn("", values)},
		{"a large object written reads back", onConn("", largeObject)},
		{"what is asked for at startup holds in each transaction", onConn("application_name=matrix search_path=pg_catalog", startup)},
		{"ten connections that take turns keep their statements apart", turns},
		{"a pool of 20 serves 400 queries and loses no update", pool},
		{"database/sql on top of it works", databaseSQL},
	})
}

func connect(ctx context.Context, settings string) *pgx.Conn {
	conn, err := pgx.Connect(ctx, settings)
	must(err)
	return conn
}

func onConn(settings string, body func(context.Context, *pgx.Conn)) func(context.Context) {
	return func(ctx context.Context) {
		conn := connect(ctx, settings)
		defer conn.Close(ctx)
		body(ctx, conn)
	}
}

type executor interface {
	Exec(ctx context.Context, sql string, args ...interface{}) (pgconn.CommandTag, error)
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...interface{}) pgx.Row
}

func exec(ctx context.Context, on executor, sql string, args ...interface{}) {
	_, err := on.Exec(ctx, sql, args...)
	must(err)
}

func number(ctx context.Context, on querier, sql string, args ...interface{}) (n int) {
	must(on.QueryRow(ctx, sql, args...).Scan(&n))
	return n
}

func refused(state string, err error) {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		panic(fmt.Sprintf("wanted %s, found %v", state, err))
	}
	same(state, pgErr.Code)
}

func commitsAndRollsBack(ctx context.Context, conn *pgx.Conn) {
	exec(ctx, conn, "CREATE TABLE moves (id int)")
	for id := 1; id <= 3; id++ {
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
		must(err)
		exec(ctx, tx, "INSERT INTO moves VALUES ($1)", id)
		if id == 2 {
			must(tx.Rollback(ctx))
		} else {
			must(tx.Commit(ctx))
		}
	}
	same(4, number(ctx, conn, "SELECT sum(id) FROM moves"))
}

func savepoint(ctx context.Context, conn *pgx.Conn) {
	exec(ctx, conn, "CREATE TABLE saved (id int)")
	must(conn.BeginFunc(ctx, func(tx pgx.Tx) error {
		exec(ctx, tx, "INSERT INTO saved VALUES ($1)", 1)
		refused("22012", tx.BeginFunc(ctx, func(inner pgx.Tx) error {
			exec(ctx, inner, "INSERT INTO saved VALUES ($1)", 2)
			_, err := inner.Exec(ctx, "SELECT 1 / $1::int", 0)
			return err
		}))
		exec(ctx, tx, "INSERT INTO saved VALUES ($1)", 3)
		return nil
	}))
	same(4, number(ctx, conn, "SELECT sum(id) FROM saved"))
}

func sqlstates(ctx context.Context, conn *pgx.Conn) {
	exec(ctx, conn, "CREATE TABLE keyed (id int PRIMARY KEY)")
	for turn := 0; turn < 10; turn++ {
		for state, sql := range map[string]string{
			"42P01": "SELECT * FROM nowhere WHERE id = $1", "42601": "SELEC $1", "22012": "SELECT 1 / ($1::int - $1)",
		} {
			_, err := conn.Exec(ctx, sql, turn)
			refused(state, err)
		}
		exec(ctx, conn, "INSERT INTO keyed VALUES ($1)", turn)
		_, err := conn.Exec(ctx, "INSERT INTO keyed VALUES ($1)", turn)
		refused("23505", err)
		tx, err := conn.Begin(ctx)
		must(err)
		_, err = tx.Exec(ctx, "SELECT 1 / $1::int", 0)
		refused("22012", err)
		_, err = tx.Exec(ctx, "SELECT $1::int", 0)
		refused("25P02", err)
		must(tx.Rollback(ctx))
		same(turn, number(ctx, conn, "SELECT $1::int", turn))
	}
}

func cachedStatements(ctx context.Context, conn *pgx.Conn) {
	for round := 0; round < 3; round++ {
		for n := 0; n < 60; n++ {
			sql := fmt.Sprintf("SELECT $1::int + %d", n)
			same(2*n, number(ctx, conn, sql, n))
			must(conn.BeginFunc(ctx, func(tx pgx.Tx) error {
				same(n, number(ctx, tx, sql, 0))
				return nil
			}))
		}
	}
}

func namedStatements(ctx context.Context, conn *pgx.Conn) {
	for n := 0; n < 200; n++ {
		description, err := conn.Prepare(ctx, fmt.Sprintf("s%d", n), fmt.Sprintf("SELECT $1::int + %d", n))
		must(err)
		same(1, len(description.Fields))
	}
	for round := 0; round < 2; round++ {
		for n := 0; n < 200; n++ {
			name := fmt.Sprintf("s%d", n)
			same(2*n, number(ctx, conn, name, n))
			must(conn.BeginFunc(ctx, func(tx pgx.Tx) error {
				same(n, number(ctx, tx, name, 0))
				return nil
			}))
		}
	}
	_, err := conn.Prepare(ctx, "broken", "SELECT * FROM nowhere")
	refused("42P01", err)
	_, err = conn.Prepare(ctx, "broken", "SELECT $1::int")
	must(err)
	same(7, number(ctx, conn, "broken", 7))
}

func changedTable(ctx context.Context, conn *pgx.Conn) {
	exec(ctx, conn, "CREATE TABLE changing AS SELECT 1 AS a")
	columns := func() int {
		rows, err := conn.Query(ctx, "SELECT * FROM changing WHERE a = $1", 1)
		must(err)
		defer rows.Close()
		for rows.Next() {
			_, err := rows.Values()
			must(err)
		}
		if rows.Err() != nil {
			return -1
		}
		return len(rows.FieldDescriptions())
	}
	same(1, columns())
	exec(ctx, conn, "ALTER TABLE changing ADD COLUMN b int DEFAULT 2")
	// The driver may be told once that its plan is out of date, and forgets the statement then.
	if found := columns(); found != 2 {
		same(-1, found)
		same(2, columns())
	}
	same(2, columns())
}

func batch(ctx context.Context, conn *pgx.Conn) {
	for turn := 0; turn < 5; turn++ {
		var sent pgx.Batch
		for i := 0; i < 200; i++ {
			sent.Queue("SELECT 100 / $1::int", 150-i)
		}
		results := conn.SendBatch(ctx, &sent)
		for i := 0; i < 150; i++ {
			var n int
			must(results.QueryRow().Scan(&n))
			same(100/(150-i), n)
		}
		var n int
		refused("22012", results.QueryRow().Scan(&n))
		results.Close()
		same(turn, number(ctx, conn, "SELECT $1::int", turn))
	}
}

func simpleProtocol(ctx context.Context, conn *pgx.Conn) {
	for n := 0; n < 20; n++ {
		same(n+1, number(ctx, conn, "SELECT $1::int + 1", pgx.QuerySimpleProtocol(true), n))
	}
	results, err := conn.PgConn().Exec(ctx, "SELECT 1; SELECT 2; SELECT 3").ReadAll()
	must(err)
	same(3, len(results))
}

func copies(ctx context.Context, conn *pgx.Conn) {
	exec(ctx, conn, "CREATE TABLE copied (id int, name text)")
	rows := make([][]interface{}, 20000)
	var lines strings.Builder
	for i := range rows {
		rows[i] = []interface{}{i, fmt.Sprintf("row %d", i)}
		fmt.Fprintf(&lines, "%d\trow %d\n", i, i)
	}
	count, err := conn.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"id", "name"}, pgx.CopyFromRows(rows))
	must(err)
	same(int64(20000), count)
	var out bytes.Buffer
	_, err = conn.PgConn().CopyTo(ctx, &out, "COPY (SELECT * FROM copied ORDER BY id) TO STDOUT")
	must(err)
	same(lines.String(), out.String())
	_, err = conn.PgConn().CopyFrom(ctx, &out, "COPY copied FROM STDIN")
	must(err)
	same(40000, number(ctx, conn, "SELECT count(*) FROM copied"))
}

func copyFails(ctx context.Context, conn *pgx.Conn) {
	exec(ctx, conn, "CREATE TABLE numbers (id int PRIMARY KEY)")
	for turn := 0; turn < 3; turn++ {
		bad := strings.NewReader(strings.Repeat("1\n", 50000))
		_, err := conn.PgConn().CopyFrom(ctx, bad, "COPY numbers FROM STDIN")
		refused("23505", err)
		_, err = conn.CopyFrom(ctx, pgx.Identifier{"nowhere"}, []string{"id"}, pgx.CopyFromRows(nil))
		refused("42P01", err)
		same(0, number(ctx, conn, "SELECT count(*) FROM numbers"))
	}
}

func copyFailsMidway(ctx context.Context, conn *pgx.Conn) {
	exec(ctx, conn, "CREATE TABLE fed (id int)")
	lost := errors.New("the source is lost")
	lines := strings.Repeat("1\n", 100000)
	into := func(tx pgx.Tx, source io.Reader) error {
		_, err := tx.Conn().PgConn().CopyFrom(ctx, source, "COPY fed FROM STDIN")
		return err
	}
	for turn := 0; turn < 3; turn++ {
		must(conn.BeginFunc(ctx, func(tx pgx.Tx) error {
			exec(ctx, tx, "INSERT INTO fed VALUES (1)")
			refused("22P02", tx.BeginFunc(ctx, func(inner pgx.Tx) error {
				return into(inner, strings.NewReader(lines+"not a number\n"+strings.Repeat(lines, 10)))
			}))
			refused("57014", tx.BeginFunc(ctx, func(inner pgx.Tx) error {
				return into(inner, io.MultiReader(strings.NewReader(lines), iotest.ErrReader(lost)))
			}))
			refused("57014", tx.BeginFunc(ctx, func(inner pgx.Tx) error {
				rows := pgx.CopyFromSlice(30000, func(i int) ([]interface{}, error) {
					if i == 20000 {
						return nil, lost
					}
					return []interface{}{i}, nil
				})
				_, err := inner.CopyFrom(ctx, pgx.Identifier{"fed"}, []string{"id"}, rows)
				return err
			}))
			return nil
		}))
		same(turn+1, number(ctx, conn, "SELECT count(*) FROM fed"))
	}
}

func copyLeft(ctx context.Context) {
	config, err := pgxpool.ParseConfig("pool_max_conns=1")
	must(err)
	pool, err := pgxpool.ConnectConfig(ctx, config)
	must(err)
	defer pool.Close()
	exec(ctx, pool, "CREATE TABLE abandoned (id int)")
	for turn := 0; turn < 3; turn++ {
		must(pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
			source, feed := io.Pipe()
			defer source.Close()
			go io.WriteString(feed, strings.Repeat("1\n", 100000))
			short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			if _, err := conn.Conn().PgConn().CopyFrom(short, source, "COPY abandoned FROM STDIN"); err == nil {
				return errors.New("the COPY was not given up")
			}
			return nil
		}))
		same(0, number(ctx, pool, "SELECT count(*) FROM abandoned"))
		must(pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
			sink, drain := io.Pipe()
			sink.Close()
			_, err := conn.Conn().PgConn().CopyTo(ctx, drain, "COPY (SELECT generate_series(1, 10000000)) TO STDOUT")
			if err != io.ErrClosedPipe {
				return fmt.Errorf("the COPY was not given up: %v", err)
			}
			return nil
		}))
		same(turn, number(ctx, pool, "SELECT $1::int", turn))
	}
}

func cancels(ctx context.Context, conn *pgx.Conn) {
	for turn := 0; turn < 3; turn++ {
		over := make(chan struct{})
		var canceller sync.WaitGroup
		canceller.Add(1)
		go func() {
			defer canceller.Done()
			for {
				select {
				case <-over:
					return
				// A cancel that comes before the query has begun does nothing, so it is asked for again.
				case <-time.After(200 * time.Millisecond):
					must(conn.PgConn().CancelRequest(ctx))
				}
			}
		}()
		_, err := conn.Exec(ctx, "SELECT pg_sleep($1)", 30)
		close(over)
		canceller.Wait()
		refused("57014", err)
		same(turn, number(ctx, conn, "SELECT $1::int", turn))
	}
}

func cancelledContext(ctx context.Context) {
	config, err := pgxpool.ParseConfig("pool_max_conns=1")
	must(err)
	pool, err := pgxpool.ConnectConfig(ctx, config)
	must(err)
	defer pool.Close()
	for turn := 0; turn < 3; turn++ {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		_, err := pool.Exec(short, "SELECT pg_sleep($1)", 30)
		cancel()
		if err == nil {
			panic("the query was not cancelled")
		}
		same(turn, number(ctx, pool, "SELECT $1::int", turn))
	}
}

func manyRows(ctx context.Context, conn *pgx.Conn) {
	rows, err := conn.Query(ctx, "SELECT n FROM generate_series(1, $1::int) n", 100000)
	must(err)
	same(100000, counted(rows))
	must(conn.BeginFunc(ctx, func(tx pgx.Tx) error {
		exec(ctx, tx, "DECLARE walker CURSOR FOR SELECT n FROM generate_series(1, 100000) n")
		seen := 0
		for {
			rows, err := tx.Query(ctx, "FETCH 7000 FROM walker")
			must(err)
			fetched := counted(rows)
			if fetched == 0 {
				break
			}
			seen += fetched
		}
		same(100000, seen)
		return nil
	}))
}

func counted(rows pgx.Rows) (seen int) {
	defer rows.Close()
	for rows.Next() {
		seen++
	}
	must(rows.Err())
	return seen
}

func leftInTheMiddle(ctx context.Context, conn *pgx.Conn) {
	for turn := 0; turn < 5; turn++ {
		rows, err := conn.Query(ctx, "SELECT generate_series(1, $1::int)", 100000)
		must(err)
		rows.Next()
		rows.Close()
		same(turn, number(ctx, conn, "SELECT $1::int", turn))
	}
}

func values(ctx context.Context, conn *pgx.Conn) {
	at := time.Date(2038, 1, 19, 3, 14, 8, 1000, time.UTC)
	content := bytes.Repeat([]byte{0, 1, 0xfe, 0xff}, 1000)
	sql := `SELECT $1::bool, $2::int, $3::int8, $4::float8, $5::text, $6::bytea, $7::timestamptz, $8::uuid,
		$9::int4[], $10::text[], $11::jsonb, $12::numeric, $13::text`
	for _, simple := range []bool{false, true} {
		var (
			truth    bool
			small    int32
			large    int64
			real     float64
			text     string
			binary   []byte
			when     time.Time
			uuid     pgtype.UUID
			ints     []int32
			texts    []string
			document map[string]interface{}
			numeric  pgtype.Numeric
			nothing  *string
			exact    pgtype.Numeric
		)
		must(exact.Set("-12345678901234567890.1234567890"))
		args := []interface{}{
			true, int32(-1<<31 + 1), int64(1<<63 - 1), 0.1 + 0.2, "naïve 漢字 '\\", content, at,
			"0b6d2f9c-8a4e-4d5f-9d0e-1f2a3b4c5d6e", []int32{1, 2, 3}, []string{"a", "b,c", `"quoted"`},
			`{"a": [1, 2.5, null, "ü"]}`, "-12345678901234567890.1234567890", nil,
		}
		if simple {
			// It cannot write Go's slices as text there.
			args[8], args[9] = "{1,2,3}", `{a,"b,c","\"quoted\""}`
			args = append([]interface{}{pgx.QuerySimpleProtocol(true)}, args...)
		}
		must(conn.QueryRow(ctx, sql, args...).Scan(
			&truth, &small, &large, &real, &text, &binary, &when, &uuid, &ints, &texts, &document, &numeric, &nothing,
		))
		same([]interface{}{true, int32(-1<<31 + 1), int64(1<<63 - 1), 0.1 + 0.2, "naïve 漢字 '\\"},
			[]interface{}{truth, small, large, real, text})
		same(content, binary)
		same(true, at.Equal(when))
		same(byte(0x0b), uuid.Bytes[0])
		same([]int32{1, 2, 3}, ints)
		same([]string{"a", "b,c", `"quoted"`}, texts)
		same(map[string]interface{}{"a": []interface{}{1.0, 2.5, nil, "ü"}}, document)
		same(rational(exact), rational(numeric))
		same((*string)(nil), nothing)
	}
}

func rational(n pgtype.Numeric) string {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-n.Exp)), nil)
	return new(big.Rat).SetFrac(n.Int, scale).String()
}

func largeObject(ctx context.Context, conn *pgx.Conn) {
	content := bytes.Repeat([]byte{0xfe, 0, 1}, 50000)
	var oid uint32
	must(conn.BeginFunc(ctx, func(tx pgx.Tx) error {
		objects := tx.LargeObjects()
		var err error
		oid, err = objects.Create(ctx, 0)
		must(err)
		object, err := objects.Open(ctx, oid, pgx.LargeObjectModeWrite)
		must(err)
		_, err = object.Write(content)
		must(err)
		return object.Close()
	}))
	must(conn.BeginFunc(ctx, func(tx pgx.Tx) error {
		objects := tx.LargeObjects()
		object, err := objects.Open(ctx, oid, pgx.LargeObjectModeRead)
		must(err)
		read := make([]byte, len(content))
		count, err := object.Read(read)
		must(err)
		same(len(content), count)
		same(true, bytes.Equal(content, read))
		return objects.Unlink(ctx, oid)
	}))
}

func startup(ctx context.Context, conn *pgx.Conn) {
	for turn := 0; turn < 5; turn++ {
		var name, path string
		must(conn.QueryRow(ctx, "SELECT current_setting('application_name'), current_setting('search_path')").Scan(&name, &path))
		same("matrix pg_catalog", name+" "+path)
	}
}

func turns(ctx context.Context) {
	conns := make([]*pgx.Conn, 10)
	for i := range conns {
		conns[i] = connect(ctx, "")
		defer conns[i].Close(ctx)
		_, err := conns[i].Prepare(ctx, "mine", fmt.Sprintf("SELECT $1::int + %d", i%3))
		must(err)
	}
	for turn := 0; turn < 20; turn++ {
		for i, conn := range conns {
			same(turn+i%3, number(ctx, conn, "mine", turn))
		}
	}
}

func pool(ctx context.Context) {
	config, err := pgxpool.ParseConfig("pool_max_conns=20")
	must(err)
	pool, err := pgxpool.ConnectConfig(ctx, config)
	must(err)
	defer pool.Close()
	exec(ctx, pool, "CREATE TABLE counter AS SELECT 0 AS n")
	var all sync.WaitGroup
	problems := make(chan error, 400)
	for i := 0; i < 400; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			problems <- pool.BeginFunc(ctx, func(tx pgx.Tx) error {
				var n int
				if err := tx.QueryRow(ctx, fmt.Sprintf("SELECT $1::int + %d", i%7), i).Scan(&n); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, "UPDATE counter SET n = n + 1")
				return err
			})
		}(i)
	}
	all.Wait()
	for i := 0; i < 400; i++ {
		must(<-problems)
	}
	same(400, number(ctx, pool, "SELECT n FROM counter"))
}

func databaseSQL(ctx context.Context) {
	config, err := pgx.ParseConfig("")
	must(err)
	db := stdlib.OpenDB(*config)
	defer db.Close()
	db.SetMaxOpenConns(10)
	statement, err := db.PrepareContext(ctx, "SELECT $1::int + 1")
	must(err)
	for turn := 0; turn < 50; turn++ {
		var n int
		must(statement.QueryRowContext(ctx, turn).Scan(&n))
		same(turn+1, n)
		tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		must(err)
		must(tx.Stmt(statement).QueryRow(turn).Scan(&n))
		same(turn+1, n)
		_, err = tx.Exec("CREATE TABLE never (id int)")
		refused("25006", err)
		must(tx.Rollback())
	}
	must(statement.Close())
}
