//! Which statements are one for several clients, and what they mean to each of them.

use crate::support::messages::{describe_statement, execute, parse, query, run, sync};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;

const ONE: &str = "pool.size = 1\n";

/// Prepares and runs one text in the middle of something; what it gives.
type Middle = fn(&mut Client, &str) -> String;

/// Every way in which something may be in force that does not follow a session.
const MIDDLES: [(&str, Middle); 6] = [
    ("a SET LOCAL", |client, text| {
        client.ask("begin");
        client.ask("set local datestyle = 'ISO, DMY'");
        client.ask("set local search_path = other");
        client.prepare("s", text);
        client.fields_of("s")
    }),
    ("a SET in a block", |client, text| {
        client.ask("begin");
        client.ask("set search_path = other; set datestyle = 'ISO, DMY'");
        client.prepare("s", text);
        client.fields_of("s")
    }),
    ("set_config by the extended protocol", |client, text| {
        client.ask("begin");
        client.prepare("c", "select set_config($1, $2, true)");
        for pair in [["search_path", "other"], ["datestyle", "ISO, DMY"]] {
            client.exchange(&[run("c", &pair), sync()].concat());
        }
        client.prepare("s", text);
        client.fields_of("s")
    }),
    ("what is sent without waiting", |client, text| {
        client.send(
            &[
                query("begin; set local search_path = other; set local datestyle = 'ISO, DMY'"),
                parse("s", text),
                run("s", &[]),
                sync(),
            ]
            .concat(),
        );
        client.read_ready(2).values()
    }),
    ("one pipeline", |client, text| {
        let reply = client.exchange(
            &[
                parse("b", "begin"),
                run("b", &[]),
                parse("p", "set local search_path = other"),
                run("p", &[]),
                parse("d", "set local datestyle = 'ISO, DMY'"),
                run("d", &[]),
                parse("s", text),
                run("s", &[]),
                sync(),
            ]
            .concat(),
        );
        reply.values()
    }),
    ("a text longer than what is read of it", |client, text| {
        client.ask("begin");
        let padding = "x".repeat(100_000);
        client.ask(&format!(
            "select '{padding}' <> ''; set local search_path = other; set local datestyle = 'ISO, DMY'"
        ));
        client.prepare("s", text);
        client.fields_of("s")
    }),
];

const TEXT: &str = "select place || extract(month from date '01/02/2020') from t";

fn with_two_schemas(postgres: &Postgres) {
    let mut admin = postgres.client();
    admin.ask("create table public.t as select 'public '::text as place");
    admin.ask("create schema other");
    admin.ask("create table other.t as select 'other '::text as place");
    admin.ask("grant usage on schema other to public");
    admin.ask("grant select on public.t, other.t to public");
}

/// P68: a text that is parsed where more is in force than follows a session is nobody else's.
#[test]
fn what_is_parsed_under_settings_of_a_transaction_is_nobody_elses() {
    let postgres = Postgres::start();
    with_two_schemas(&postgres);
    for (what, middle) in MIDDLES {
        let proxy = Proxy::start(&postgres, ONE);
        let (mut one, mut two) = (proxy.client(), proxy.client());

        assert_eq!(middle(&mut one, TEXT), "other 2", "{what}");
        one.ask("rollback");

        two.prepare("s", TEXT);
        assert_eq!(two.fields_of("s"), "public 1", "{what}");
    }
}

/// P68: nor does it take another's that is there.
#[test]
fn under_settings_of_a_transaction_nobody_gets_what_others_have_parsed() {
    let postgres = Postgres::start();
    with_two_schemas(&postgres);
    for (what, middle) in MIDDLES {
        let proxy = Proxy::start(&postgres, ONE);
        let (mut one, mut two) = (proxy.client(), proxy.client());
        two.prepare("s", TEXT);
        assert_eq!(two.fields_of("s"), "public 1");

        assert_eq!(middle(&mut one, TEXT), "other 2", "{what}");
        one.ask("rollback");

        assert_eq!(two.fields_of("s"), "public 1", "{what}");
    }
}

/// P68: a shared statement that a server lacks is prepared there for one use only, where settings of
/// a transaction are in force.
#[test]
fn what_is_prepared_elsewhere_in_a_changed_transaction_is_not_left_to_others() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2");
    let text = "select extract(month from date '01/02/2020')::text";
    let (mut one, mut two, mut blocker) = (proxy.client(), proxy.client(), proxy.client());
    one.prepare("s", text);
    two.prepare("s", text);
    let first = one.pid();

    // Both clients are sent to the other server.
    let mut spare = proxy.client();
    blocker.ask("begin");
    spare.ask("begin");
    let is_first = blocker.pid() == first;
    let (mut held, mut free) = if is_first { (blocker, spare) } else { (spare, blocker) };
    assert_eq!(held.pid(), first);
    free.ask("rollback");
    one.ask("begin");
    one.ask("set local search_path = pg_catalog; set local datestyle = 'ISO, DMY'");
    one.fields_of("s");
    one.ask("rollback");

    assert_eq!(two.fields_of("s"), "1");
    assert_eq!(one.fields_of("s"), "1");
    held.ask("rollback");
}

/// The name stays the client's, behind the transaction too, and acts as on a server of its own.
#[test]
fn a_private_statement_stays_its_clients() {
    let postgres = Postgres::start();
    with_two_schemas(&postgres);
    let proxy = Proxy::start(&postgres, ONE);
    for mut client in [postgres.client(), proxy.client()] {
        client.ask("begin");
        client.ask("set local search_path = other");
        client.prepare("s", "select place from t");
        assert_eq!(client.fields_of("s"), "other ");
        client.ask("commit");

        // PostgreSQL looks names up anew under another search_path.
        assert_eq!(client.fields_of("s"), "public ");
        let reply = client.exchange(&[describe_statement("s"), sync()].concat());
        assert_eq!(reply.tags(), "tTZI");
        let again = client.exchange(&[parse("s", "select 1"), execute(), sync()].concat());
        assert_eq!(again.code(), "42P05");
    }
}

/// What a transaction sets of its own, or for how statements run, keeps statements shared.
#[test]
fn settings_that_no_text_depends_on_keep_statements_shared() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for tenant in ["a", "b", "c"] {
        let mut client = proxy.client();
        client.ask("begin");
        client.ask(&format!("select set_config('my.tenant', '{tenant}', true)"));
        client.ask("set local statement_timeout = '1min'");
        client.prepare("s", "select current_setting('my.tenant')");
        assert_eq!(client.fields_of("s"), tenant);
        let count = "select count(*) from pg_prepared_statements";
        assert_eq!(client.value(count), "1");
        client.ask("commit");
    }
}

const COLUMNS: &str = "select * from t";

/// A table that the clients own.
fn with_a_table(proxy: &Proxy) {
    let mut owner = proxy.client();
    assert_eq!(owner.ask("create table here.t as select 1 as a").errors(), []);
}

/// P55, P83: who parses a text behind somebody's ALTER has not seen what it gave before.
#[test]
fn a_text_that_is_parsed_behind_an_alter_gives_the_new_columns() {
    let postgres = Postgres::start();
    for size in [1, 2] {
        for alter in [
            "alter table here.t add b int default 2",
            "begin; alter table here.t add b int default 2; commit",
            "do 'begin alter table here.t add b int default 2; end'",
        ] {
            let proxy = Proxy::start(&postgres, &format!("pool.size = {size}"));
            let path = [("search_path", "here")];
            postgres.client().ask("drop schema if exists here cascade");
            postgres.client().ask("create schema here; grant all on schema here to public");
            with_a_table(&proxy);
            let (mut one, mut two) = (proxy.client_with(&path), proxy.client_with(&path));
            one.prepare("s", COLUMNS);
            assert_eq!(one.fields_of("s"), "1");
            assert_eq!(two.ask(alter).errors(), [], "{alter}");

            two.prepare("s", COLUMNS);
            assert_eq!(two.fields_of("s"), "1 2", "{alter}");
            two.ask("begin");
            two.prepare("again", COLUMNS);
            assert_eq!(two.fields_of("again"), "1 2", "{alter}");
            two.ask("commit");
            let mut three = proxy.client_with(&path);
            three.prepare("s", COLUMNS);
            let described = three.exchange(&[describe_statement("s"), sync()].concat());
            assert_eq!(described.tags(), "tTZI", "{alter}");
            assert_eq!(three.fields_of("s"), "1 2", "{alter}");
        }
    }
}

/// pgbouncer.md row 11, P55, P83: who was told of the old columns hears of it once, as on a server of its own.
#[test]
fn who_was_told_of_the_old_columns_hears_of_the_change_once() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    postgres.client().ask("create schema here; grant all on schema here to public");
    with_a_table(&proxy);
    let path = [("search_path", "here")];
    let (mut one, mut other, mut two) =
        (proxy.client_with(&path), proxy.client_with(&path), proxy.client_with(&path));
    for client in [&mut one, &mut other] {
        client.prepare("s", COLUMNS);
        assert_eq!(client.fields_of("s"), "1");
    }
    two.ask("alter table here.t add b int default 2");
    two.prepare("s", COLUMNS);
    assert_eq!(two.fields_of("s"), "1 2");

    for client in [&mut one, &mut other] {
        let reply = client.use_prepared("s");
        assert_eq!(reply.tags(), "EZI");
        let error = reply.error();
        assert_eq!(
            (error.code(), error.message()),
            ("0A000", "cached plan must not change result type")
        );
        assert_eq!(client.fields_of("s"), "1 2");
    }
    assert_eq!(two.fields_of("s"), "1 2");
}

/// P55: nor does a text that is parsed while an ALTER is under way, and waits for it.
#[test]
fn a_text_that_is_parsed_during_an_alter_gives_the_new_columns() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2");
    postgres.client().ask("create schema here; grant all on schema here to public");
    with_a_table(&proxy);
    let path = [("search_path", "here")];
    let (mut one, mut two, mut three) =
        (proxy.client_with(&path), proxy.client_with(&path), proxy.client_with(&path));
    // Both servers have the statement.
    one.ask("begin");
    for client in [&mut one, &mut three] {
        client.prepare("s", COLUMNS);
        assert_eq!(client.fields_of("s"), "1");
    }
    one.ask("commit");
    two.ask("begin");
    two.ask("alter table here.t add b int default 2");

    three.send(&[parse("new", COLUMNS), run("new", &[]), sync()].concat());
    three.assert_silent();
    two.ask("commit");

    let reply = three.read_ready(1);
    assert_eq!(
        (reply.tags().as_str(), reply.rows().concat().join(" ").as_str()),
        ("12DCZI", "1 2")
    );
}

/// P68: literals are folded when a text is parsed, and nothing reads them again as long as names are
/// looked up in the same places.
#[test]
fn literals_read_under_settings_of_a_transaction_are_nobody_elses() {
    let postgres = Postgres::start();
    let nulls = "select array_position('{null}'::text[], 'null') is null";
    let month = "select extract(month from date '01/02/2020')";
    for (set, text, theirs, own) in [
        ("set local array_nulls = off", nulls, "f", "t"),
        ("set local datestyle = 'ISO, DMY'", month, "2", "1"),
    ] {
        let proxy = Proxy::start(&postgres, ONE);
        let (mut one, mut two, mut three) = (proxy.client(), proxy.client(), proxy.client());
        let changed = [query("begin"), query(set), parse("s", text), run("s", &[]), sync()];
        two.prepare("s", text);
        assert_eq!(two.fields_of("s"), own);

        one.send(&changed.concat());
        assert_eq!(one.read_ready(3).rows().concat(), [theirs], "{set}");
        one.ask("rollback");

        three.prepare("s", text);
        assert_eq!(three.fields_of("s"), own, "{set}");
        assert_eq!(two.fields_of("s"), own, "{set}");
    }
}

/// P68: also what a Bind puts on a server that lacks it.
#[test]
fn what_a_changed_transaction_puts_on_a_server_serves_nobody_else() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let text = "select array_position('{null}'::text[], 'null') is null";
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.prepare("s", text);
    two.prepare("s", text);
    // The server forgets all statements.
    proxy.client().ask("listen forget");

    one.ask("begin");
    one.ask("set local array_nulls = off");
    one.fields_of("s");
    one.ask("rollback");

    assert_eq!(two.fields_of("s"), "t");
    assert_eq!(one.fields_of("s"), "t");
}

/// A new table may hide the one that a text was of; and who parsed before keeps what it had.
#[test]
fn a_text_that_is_parsed_behind_a_new_table_reads_that() {
    let postgres = Postgres::start();
    postgres.client().ask(
        "create schema s1; create schema s2; create table s2.t as select 's2' as x; \
         grant all on schema s1, s2 to public; grant all on s2.t to public",
    );
    let proxy = Proxy::start(&postgres, "pool.size = 1");
    let options = [("options", "-c search_path=s1,s2")];
    let both = [parse("s", "select x from t"), run("s", &[]), sync()].concat();
    for makes in ["create table s1.t as select 's1' as x", "select 's1' as x into s1.t"] {
        let (mut before, mut after) = (proxy.client_with(&options), proxy.client_with(&options));
        assert_eq!(before.exchange(&both).values(), "s2");

        assert_eq!(before.ask(makes).errors(), []);

        assert_eq!(after.exchange(&both).values(), "s1", "{makes}");
        before.ask("drop table s1.t");
    }
}

/// Where the text is too long to be looked through the command tag tells.
#[test]
fn a_text_that_is_parsed_behind_a_long_alter_has_the_columns_of_now() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1");
    let mut owner = proxy.client();
    owner.ask("create table t (a int)");
    let both = [parse("s", "select * from t"), run("s", &[]), sync()].concat();
    proxy.client().exchange(&both);

    owner.ask(&format!("alter table t add b int /* {} */", "x".repeat(200_000)));

    let mut second = proxy.client();
    second.ask("begin");
    assert_eq!(second.exchange(&both).errors(), []);
}
