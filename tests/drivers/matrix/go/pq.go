// lib/pq's checks, through database/sql. Where to connect is in PGHOST, PGPORT and so on.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lib/pq"
)

func main() {
	runAll([]check{
		{"commits and rolls back as asked", onDB("", commitsAndRollsBack)},
		{"a savepoint undoes what came after it, also after an error", onDB("", savepoint)},
		{"errors have their SQLSTATE and the session goes on", onDB("", sqlstates)},
		{"statements prepared work in and across transactions", onDB("", prepared)},
		{"parameters in binary and results in one round trip work too", onDB("binary_parameters=yes", prepared)},
		{"a prepared statement survives a change of its table", onDB("", changedTable)},
		{"COPY carries 20000 rows in", onDB("", copies)},
		{"a COPY that fails leaves the connection usable", onDB("", copyFails)},
		{"a COPY that fails in the middle leaves its transaction and its connection usable", onDB("", copyFailsMidway)},
		{"a context that ends cancels the query and the pool goes on", onDB("", cancels)},
		{"a statement_timeout asked for at startup holds on every server", onDB("statement_timeout=100", timeouts)},
		{"100000 rows come at once and through a cursor", onDB("", manyRows)},
		{"rows left in the middle leave the connection usable", onDB("", leftInTheMiddle)},
		{"a value of each type comes back as it went", onDB("", values)},
		{"a value of each type comes back as it went, parameters in binary", onDB("binary_parameters=yes", values)},
		{"notices reach the one who caused them", notices},
		{"20 connections at once lose no update", onDB("", updates)},
	})
}

func onDB(settings string, body func(context.Context, *sql.DB)) func(context.Context) {
	return func(ctx context.Context) {
		db, err := sql.Open("postgres", "sslmode=disable connect_timeout=30 "+settings)
		must(err)
		defer db.Close()
		db.SetMaxOpenConns(20)
		body(ctx, db)
	}
}

func exec(ctx context.Context, db *sql.DB, query string, args ...interface{}) {
	_, err := db.ExecContext(ctx, query, args...)
	must(err)
}

func number(ctx context.Context, db *sql.DB, query string, args ...interface{}) (n int) {
	must(db.QueryRowContext(ctx, query, args...).Scan(&n))
	return n
}

func begin(ctx context.Context, db *sql.DB) *sql.Tx {
	tx, err := db.BeginTx(ctx, nil)
	must(err)
	return tx
}

func refused(state string, err error) {
	var pqErr *pq.Error
	if !errors.As(err, &pqErr) {
		panic(fmt.Sprintf("wanted %s, found %v", state, err))
	}
	same(state, string(pqErr.Code))
}

func commitsAndRollsBack(ctx context.Context, db *sql.DB) {
	exec(ctx, db, "CREATE TABLE moves (id int)")
	for id := 1; id <= 3; id++ {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
		must(err)
		_, err = tx.Exec("INSERT INTO moves VALUES ($1)", id)
		must(err)
		if id == 2 {
			must(tx.Rollback())
		} else {
			must(tx.Commit())
		}
	}
	same(4, number(ctx, db, "SELECT sum(id) FROM moves"))
}

func savepoint(ctx context.Context, db *sql.DB) {
	exec(ctx, db, "CREATE TABLE saved (id int)")
	tx := begin(ctx, db)
	for id := 1; id <= 3; id++ {
		_, err := tx.Exec("SAVEPOINT here")
		must(err)
		_, err = tx.Exec("INSERT INTO saved VALUES ($1)", id)
		must(err)
		if id == 2 {
			_, err = tx.Exec("SELECT 1 / $1::int", 0)
			refused("22012", err)
			_, err = tx.Exec("SELECT $1::int", 0)
			refused("25P02", err)
			_, err = tx.Exec("ROLLBACK TO here")
			must(err)
		}
	}
	must(tx.Commit())
	same(4, number(ctx, db, "SELECT sum(id) FROM saved"))
}

func sqlstates(ctx context.Context, db *sql.DB) {
	exec(ctx, db, "CREATE TABLE keyed (id int PRIMARY KEY)")
	for turn := 0; turn < 10; turn++ {
		for state, query := range map[string]string{
			"42P01": "SELECT * FROM nowhere WHERE id = $1", "42601": "SELEC $1", "22012": "SELECT 1 / ($1::int - $1)",
		} {
			_, err := db.ExecContext(ctx, query, turn)
			refused(state, err)
		}
		exec(ctx, db, "INSERT INTO keyed VALUES ($1)", turn)
		_, err := db.ExecContext(ctx, "INSERT INTO keyed VALUES ($1)", turn)
		refused("23505", err)
		same(turn, number(ctx, db, "SELECT $1::int", turn))
	}
}

func prepared(ctx context.Context, db *sql.DB) {
	statements := make([]*sql.Stmt, 50)
	for n := range statements {
		statement, err := db.PrepareContext(ctx, fmt.Sprintf("SELECT $1::int + %d", n))
		must(err)
		defer statement.Close()
		statements[n] = statement
	}
	for round := 0; round < 3; round++ {
		for n, statement := range statements {
			var found int
			must(statement.QueryRow(n).Scan(&found))
			same(2*n, found)
			tx := begin(ctx, db)
			must(tx.Stmt(statement).QueryRow(0).Scan(&found))
			must(tx.Commit())
			same(n, found)
		}
	}
}

func changedTable(ctx context.Context, db *sql.DB) {
	exec(ctx, db, "CREATE TABLE changing AS SELECT 1 AS a")
	read, err := db.PrepareContext(ctx, "SELECT * FROM changing WHERE a = $1")
	must(err)
	defer read.Close()
	columns := func() int {
		rows, err := read.Query(1)
		must(err)
		defer rows.Close()
		names, err := rows.Columns()
		must(err)
		return len(names)
	}
	same(1, columns())
	exec(ctx, db, "ALTER TABLE changing ALTER COLUMN a TYPE int USING a + 0")
	same(1, columns())
}

func copies(ctx context.Context, db *sql.DB) {
	exec(ctx, db, "CREATE TABLE copied (id int, name text)")
	tx := begin(ctx, db)
	input, err := tx.Prepare(pq.CopyIn("copied", "id", "name"))
	must(err)
	for i := 0; i < 20000; i++ {
		_, err := input.Exec(i, fmt.Sprintf("row %d", i))
		must(err)
	}
	_, err = input.Exec()
	must(err)
	must(input.Close())
	must(tx.Commit())
	same(20000, number(ctx, db, "SELECT count(DISTINCT name) FROM copied"))
}

func copyFails(ctx context.Context, db *sql.DB) {
	exec(ctx, db, "CREATE TABLE numbers (id int PRIMARY KEY)")
	for turn := 0; turn < 3; turn++ {
		tx := begin(ctx, db)
		input, err := tx.Prepare(pq.CopyIn("numbers", "id"))
		must(err)
		for i := 0; i < 50000 && err == nil; i++ {
			_, err = input.Exec(i % 100)
		}
		if err == nil {
			_, err = input.Exec()
		}
		refused("23505", err)
		input.Close()
		must(tx.Rollback())
		same(0, number(ctx, db, "SELECT count(*) FROM numbers"))
	}
}

func copyFailsMidway(ctx context.Context, db *sql.DB) {
	exec(ctx, db, "CREATE TABLE fed (id int)")
	conn, err := db.Conn(ctx)
	must(err)
	defer conn.Close()
	for turn := 0; turn < 3; turn++ {
		tx, err := conn.BeginTx(ctx, nil)
		must(err)
		_, err = tx.Exec("INSERT INTO fed VALUES (1); SAVEPOINT here")
		must(err)
		input, err := tx.Prepare(pq.CopyIn("fed", "id"))
		must(err)
		// Without an end: the error has to come while rows are being sent.
		for i := 0; err == nil; i++ {
			if i == 20000 {
				_, err = input.Exec("not a number")
			} else {
				_, err = input.Exec(i)
			}
		}
		refused("22P02", err)
		input.Close()
		_, err = tx.Exec("SELECT $1::int", 0)
		refused("25P02", err)
		_, err = tx.Exec("ROLLBACK TO here")
		must(err)
		must(tx.Commit())
		var count int
		must(conn.QueryRowContext(ctx, "SELECT count(*) FROM fed").Scan(&count))
		same(turn+1, count)
	}
}

func cancels(ctx context.Context, db *sql.DB) {
	db.SetMaxOpenConns(1)
	for turn := 0; turn < 3; turn++ {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		_, err := db.ExecContext(short, "SELECT pg_sleep($1)", 30)
		cancel()
		if err == nil {
			panic("the query was not cancelled")
		}
		same(turn, number(ctx, db, "SELECT $1::int", turn))
	}
}

func timeouts(ctx context.Context, db *sql.DB) {
	for turn := 0; turn < 5; turn++ {
		_, err := db.ExecContext(ctx, "SELECT pg_sleep($1)", 30)
		refused("57014", err)
		same(turn, number(ctx, db, "SELECT $1::int", turn))
	}
}

func manyRows(ctx context.Context, db *sql.DB) {
	rows, err := db.QueryContext(ctx, "SELECT n FROM generate_series(1, $1::int) n", 100000)
	must(err)
	same(100000, counted(rows))
	tx := begin(ctx, db)
	_, err = tx.Exec("DECLARE walker CURSOR FOR SELECT n FROM generate_series(1, 100000) n")
	must(err)
	seen := 0
	for {
		rows, err := tx.Query("FETCH 7000 FROM walker")
		must(err)
		fetched := counted(rows)
		if fetched == 0 {
			break
		}
		seen += fetched
	}
	must(tx.Commit())
	same(100000, seen)
}

func counted(rows *sql.Rows) (seen int) {
	defer rows.Close()
	for rows.Next() {
		seen++
	}
	must(rows.Err())
	return seen
}

func leftInTheMiddle(ctx context.Context, db *sql.DB) {
	for turn := 0; turn < 5; turn++ {
		rows, err := db.QueryContext(ctx, "SELECT generate_series(1, $1::int)", 100000)
		must(err)
		rows.Next()
		must(rows.Close())
		same(turn, number(ctx, db, "SELECT $1::int", turn))
	}
}

func values(ctx context.Context, db *sql.DB) {
	at := time.Date(2038, 1, 19, 3, 14, 8, 1000, time.UTC)
	content := bytes.Repeat([]byte{0, 1, 0xfe, 0xff}, 1000)
	var (
		truth                         bool
		small                         int32
		large                         int64
		real                          float64
		text, uuid, document, numeric string
		binary                        []byte
		when                          time.Time
		ints                          []int64
		texts                         []string
		nothing                       sql.NullString
	)
	row := db.QueryRowContext(ctx, `SELECT $1::bool, $2::int, $3::int8, $4::float8, $5::text, $6::bytea,
		$7::timestamptz, $8::uuid, $9::int4[], $10::text[], $11::jsonb, $12::numeric, $13::text`,
		true, -1<<31, int64(1<<63-1), 0.1+0.2, "naïve 漢字 '\\", content, at,
		"0b6d2f9c-8a4e-4d5f-9d0e-1f2a3b4c5d6e", pq.Array([]int64{1, 2, 3}),
		pq.Array([]string{"a", "b,c", `"quoted"`}), `{"a": [1, 2.5, null, "ü"]}`,
		"-12345678901234567890.123456789012345678900", nil,
	)
	must(row.Scan(&truth, &small, &large, &real, &text, &binary, &when, &uuid, pq.Array(&ints),
		pq.Array(&texts), &document, &numeric, &nothing))
	same([]interface{}{true, int32(-1 << 31), int64(1<<63 - 1), 0.1 + 0.2, "naïve 漢字 '\\"},
		[]interface{}{truth, small, large, real, text})
	same(content, binary)
	same(true, at.Equal(when))
	same("0b6d2f9c-8a4e-4d5f-9d0e-1f2a3b4c5d6e", uuid)
	same([]int64{1, 2, 3}, ints)
	same([]string{"a", "b,c", `"quoted"`}, texts)
	same(`{"a": [1, 2.5, null, "ü"]}`, document)
	same("-12345678901234567890.123456789012345678900", numeric)
	same(false, nothing.Valid)
}

func notices(ctx context.Context) {
	base, err := pq.NewConnector("sslmode=disable")
	must(err)
	var heard []string
	db := sql.OpenDB(pq.ConnectorWithNoticeHandler(base, func(notice *pq.Error) {
		heard = append(heard, notice.Message)
	}))
	defer db.Close()
	db.SetMaxOpenConns(1)
	exec(ctx, db, "DO $$ BEGIN RAISE NOTICE 'mind the gap'; END $$")
	same([]string{"mind the gap"}, heard)
}

func updates(ctx context.Context, db *sql.DB) {
	exec(ctx, db, "CREATE TABLE counter AS SELECT 0 AS n")
	var all sync.WaitGroup
	problems := make(chan error, 200)
	for i := 0; i < 200; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			tx, err := db.BeginTx(ctx, nil)
			if err == nil {
				_, err = tx.Exec("UPDATE counter SET n = n + $1", 1)
			}
			if err == nil {
				err = tx.Commit()
			}
			problems <- err
		}()
	}
	all.Wait()
	for i := 0; i < 200; i++ {
		must(<-problems)
	}
	same(200, number(ctx, db, "SELECT n FROM counter"))
}
