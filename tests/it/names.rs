//! Hosts that are named: looked up again and again, found at several addresses, moved, and not found at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::authority::Authority;
use crate::support::fake_server::{FakeServer, Peer};
use crate::support::messages::query;
use crate::support::names::Names;
use crate::support::postgres::{Postgres, loopback, loopbacks};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::relay::Relay;
use crate::support::wait::wait_until;

const NAME: &str = "db.test";

/// Look-ups and looks that come thick and fast.
const BRISK: &str = "domains.main.health = { interval = '50ms', resolve = '20ms' }\n";

/// A server that says who it is.
struct Site {
    postgres: Postgres,
    relay: Relay,
    ip: IpAddr,
}

impl Site {
    fn start(name: &str, (ip, port): (IpAddr, u16)) -> Self {
        let postgres = Postgres::start();
        postgres.client().ask(&format!("alter database app_db set app.name = '{name}'"));
        Self { relay: Relay::at((ip, port), &postgres), postgres, ip }
    }

    /// So many of them at one port, each at an address of its own.
    fn start_all<const N: usize>(names: [&str; N]) -> [Self; N] {
        let mut addresses = loopbacks().into_iter();
        let mut port = 0;
        names.map(|name| {
            let site = Self::start(name, (addresses.next().unwrap().into(), port));
            port = site.relay.port();
            site
        })
    }

    /// Ends it as a crash of its machine would.
    fn crash(&mut self) {
        self.relay.close();
        self.postgres.stop();
    }
}

const WHO: &str = "select current_setting('app.name')";

fn who(client: &mut Client) -> String {
    client.value(WHO)
}

/// Who serves a client whose server is gone, which it may hear of.
fn who_after_loss(client: &mut Client) -> String {
    let answer = client.ask(WHO);
    match answer.errors().first() {
        None => answer.values(),
        Some(error) => {
            assert_eq!(error.code(), "08006");
            who(client)
        }
    }
}

/// The hosts of the domain as `SHOW HOSTS` has them.
fn hosts(proxy: &Proxy) -> Vec<String> {
    let hosts = proxy.observe().hosts();
    hosts.iter().map(|host| format!("{} {} {}", host.host, host.role, host.condition)).collect()
}

#[track_caller]
fn wait_for_hosts(proxy: &Proxy, expected: &[String]) {
    wait_until(&format!("the hosts are {expected:?}"), || hosts(proxy) == expected);
}

/// A host that says that it is a replica of `primary`, and does nothing else.
fn replica(primary: &Postgres, address: (Ipv4Addr, u16)) -> FakeServer {
    let system = primary.client().value("select system_identifier from pg_control_system()");
    FakeServer::start_at(address, move |peer| {
        peer.welcome();
        while let Some(message) = peer.read() {
            match message.tag {
                b'Q' if message.body.starts_with(b"SELECT s.r") => answer_probe(peer, &system),
                b'Q' => {
                    peer.row("replica");
                    peer.complete("SELECT 1");
                }
                _ => return,
            }
            peer.ready(b'I');
        }
    })
}

/// In recovery, of the cluster `system`, on the first timeline.
fn answer_probe(peer: &mut Peer, system: &str) {
    let mut body = vec![0, 5];
    for value in ["1", system, "1", "0/1", ""] {
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    peer.send(b'D', &body);
    peer.complete("SELECT 1");
}

/// P42: that a name is not found is no reason not to start, and is not believed for long.
#[test]
fn a_name_that_leads_nowhere_is_a_host_that_is_down_until_it_leads_somewhere() {
    let names = Names::default();
    let [site] = Site::start_all(["a"]);
    let host = format!("{NAME}:{}", site.relay.port());
    let settings = format!("pool.timeout = '500ms'\npool.connect_attempts = 3\n{BRISK}");
    let proxy = Proxy::by_names(&names, &host, &settings);

    let error = proxy.try_client_with(&[]).unwrap_err();

    assert_eq!(error.code(), "08001", "{error:?}");
    let detail = "its name does not resolve: Name or service not known";
    assert!(error.detail().contains(detail), "{error:?}");
    wait_for_hosts(&proxy, &[format!("{host} unknown down")]);
    assert!(proxy.observe().hosts()[0].trouble.as_deref().unwrap().contains(detail));

    names.set(NAME, &[site.ip]);
    wait_until("it is served", || proxy.try_client_with(&[]).is_ok());
    wait_for_hosts(&proxy, &[format!("{host} primary up")]);
}

/// What listens at `0.0.0.0` answers from another address than the one that was asked for.
#[test]
fn a_host_that_answers_from_another_address_is_served_from() {
    let site = Site::start("a", (Ipv4Addr::LOCALHOST.into(), 0));
    let proxy = Proxy::before(&format!("0.0.0.0:{}", site.relay.port()), "pool.size = 1\n");

    assert_eq!(who(&mut proxy.client()), "a");

    let logins = site.relay.startups().len();
    assert!(logins <= 2, "{logins} logins, with that of a look");
}

/// P42: its idle servers go along, what is under way ends where it is.
#[test]
fn a_name_that_moves_takes_its_clients_along() {
    let names = Names::default();
    let [a, b] = Site::start_all(["a", "b"]);
    let host = format!("{NAME}:{}", a.relay.port());
    names.set(NAME, &[a.ip]);
    let proxy = Proxy::by_names(&names, &host, BRISK);
    let (mut at_work, mut idle) = (proxy.client(), proxy.client());
    at_work.ask("begin");
    assert_eq!((who(&mut at_work), who(&mut idle)), ("a".into(), "a".into()));
    wait_for_hosts(&proxy, &[format!("{host} primary up")]);

    names.set(NAME, &[b.ip]);

    wait_until("it has moved", || who(&mut idle) == "b");
    assert_eq!(who(&mut at_work), "a", "its transaction goes on");
    let shown = proxy.observe().hosts();
    let left = shown.iter().find(|shown| *shown.host == *format!("{host} ({})", a.ip)).unwrap();
    assert_eq!(left.servers, 1);
    assert_eq!(left.trouble.as_deref(), Some("its name does not lead here any more"));
    assert_eq!(at_work.ask("commit").done(), ["COMMIT"]);
    assert_eq!(who(&mut at_work), "b");
    wait_until("nothing is left there", || a.postgres.connections() == 0);
    wait_for_hosts(&proxy, &[format!("{host} primary up")]);

    // And back, to a place that was left.
    names.set(NAME, &[a.ip]);
    wait_until("it is back", || who(&mut idle) == "a");
    wait_until("nothing is left at the other", || b.postgres.connections() == 0);
}

/// P42: where it was is where it is, for all that anybody knows.
#[test]
fn a_name_that_is_not_found_any_more_leaves_its_host_where_it_was() {
    let names = Names::default();
    let [site] = Site::start_all(["a"]);
    names.set(NAME, &[site.ip]);
    let proxy = Proxy::by_names(&names, &format!("{NAME}:{}", site.relay.port()), BRISK);
    let mut client = proxy.client();
    let server = client.pid();

    names.forget(NAME);
    names.wait_for_questions(NAME, 3);
    assert_eq!(client.pid(), server);
    names.set::<Ipv4Addr>(NAME, &[]);
    names.wait_for_questions(NAME, 3);
    assert_eq!(client.pid(), server);
    // A new server is opened there as well.
    client.ask("begin");
    assert_eq!(who(&mut proxy.client()), "a");
    names.hang();
    names.wait_for_questions(NAME, 1);
    assert_eq!(client.pid(), server);
}

/// P42: a change is not noticed by the clock alone.
#[test]
fn a_name_is_looked_up_at_once_when_its_host_is_gone() {
    let names = Names::default();
    let [mut a, b] = Site::start_all(["a", "b"]);
    names.set(NAME, &[a.ip]);
    let host = format!("{NAME}:{}", a.relay.port());
    let settings = "domains.main.health = { interval = '1h', resolve = '1h' }";
    let proxy = Proxy::by_names(&names, &host, settings);
    let mut client = proxy.client();
    assert_eq!(who(&mut client), "a");
    assert_eq!(names.asked(NAME), 1);

    names.set(NAME, &[b.ip]);
    a.crash();

    // Long before the hour is over.
    assert_eq!(who_after_loss(&mut client), "b");
    assert!(names.asked(NAME) < 10, "asked {} times", names.asked(NAME));
}

/// P41: each address is a host: one of them is the primary, and another becomes it.
#[test]
fn a_name_with_several_addresses_is_several_hosts() {
    let names = Names::default();
    let [mut a, mut b] = Site::start_all(["a", "b"]);
    names.set(NAME, &[a.ip, b.ip]);
    let host = format!("{NAME}:{}", a.relay.port());
    let settings = format!("{BRISK}domains.main.failover = {{ timeout = '2s' }}");
    let proxy = Proxy::by_names(&names, &host, &settings);
    let mut client = proxy.client();

    let first = who(&mut client);
    // Copies of one cluster: both take writes, and only one is the primary.
    let of = |site: &Site, role: &str| format!("{host} ({}) {role} up", site.ip);
    let is_a = first == "a";
    let (role_a, role_b) = if is_a { ("primary", "fenced") } else { ("fenced", "primary") };
    wait_for_hosts(&proxy, &[of(&a, role_a), of(&b, role_b)]);
    assert_eq!(&*proxy.pool().host, host, "by its name, whatever the addresses");

    if is_a {
        a.crash();
    } else {
        b.crash();
    }
    let other = if is_a { "b" } else { "a" };
    assert_eq!(who_after_loss(&mut client), other);

    if is_a {
        b.crash();
    } else {
        a.crash();
    }
    wait_until("both are gone", || hosts(&proxy).iter().all(|host| host.ends_with("down")));
    let error = client.ask("select 1").error();
    assert_eq!(error.code(), "08001");
    for site in [&a, &b] {
        let line = format!("{host} ({}): down", site.ip);
        assert!(error.detail().contains(&line), "{error:?} does not tell of {}", site.ip);
    }
}

/// The one that is left may be a replica that is about to be promoted, or a primary that was left behind.
#[test]
fn who_is_left_of_several_does_not_serve_writers_for_being_alone() {
    let names = Names::default();
    let [mut primary] = Site::start_all(["primary"]);
    let port = primary.relay.port();
    let [_, there, _] = loopbacks();
    let _replica = replica(&primary.postgres, (there, port));
    let there = IpAddr::from(there);
    names.set(NAME, &[there]);
    let settings = format!("{BRISK}domains.main.failover = {{ timeout = '1s' }}");
    let proxy = Proxy::by_names(&names, &format!("{NAME}:{port}"), &settings);
    let mut client = proxy.client();
    assert_eq!(client.value("select 'who'"), "replica", "a single host serves whatever it is");

    names.set(NAME, &[there, primary.ip]);
    wait_until("the primary is found", || client.ask("select 'who'").values() == "who");

    names.set(NAME, &[there]);
    names.wait_for_questions(NAME, 5);
    assert_eq!(client.value("select 'who'"), "who", "writers have no other place to go");
    primary.crash();
    wait_for_hosts(&proxy, &[format!("{NAME}:{port} replica up")]);
    client = proxy.client();
    assert_eq!(client.ask("select 'who'").code(), "08001");
    let mut reader = proxy.client_with(&[("database", "main_ro")]);
    assert_eq!(reader.value("select 'who'"), "replica");

    primary.postgres.resume();
    primary.relay = Relay::at((primary.ip, port), &primary.postgres);
    names.set(NAME, &[primary.ip, there]);
    wait_until("the primary is back", || client.ask("select 'who'").values() == "who");
}

/// What its key is for is where it was opened, and nowhere else.
#[test]
fn a_cancel_goes_where_its_server_is_when_the_name_has_moved() {
    let names = Names::default();
    let [a, b] = Site::start_all(["a", "b"]);
    names.set(NAME, &[a.ip]);
    let proxy = Proxy::by_names(&names, &format!("{NAME}:{}", a.relay.port()), BRISK);
    let (mut sleeper, mut other) = (proxy.client(), proxy.client());
    sleeper.send(&query("select pg_sleep(60)"));
    let is_asleep = "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'";
    wait_until("it sleeps", || a.postgres.client().value(is_asleep) == "1");
    names.set(NAME, &[b.ip]);
    wait_until("the name has moved", || who(&mut other) == "b");

    sleeper.cancel();

    assert_eq!(sleeper.read_ready(1).code(), "57014");
    assert_eq!((a.relay.cancels().len(), b.relay.cancels().len()), (1, 0));
    assert_eq!(who(&mut sleeper), "b");
}

/// P41: certificates are for names. An address is never what is verified, nor what is told (SNI).
#[test]
fn a_certificate_is_verified_for_the_name_at_each_of_its_addresses() {
    let authority = Authority::new();
    let any = "host all all 127.0.0.0/8 trust";
    let ours = authority.issue("the server", &[NAME]);
    let theirs = authority.issue("another", &["other.test", &loopback().to_string()]);
    let full = format!(
        "{BRISK}domains.main.tls = {{ mode = 'verify-full', ca = '{}' }}",
        authority.ca().display()
    );
    let [first, second, _] = loopbacks();
    let start = |identity, ip| Postgres::start_with_tls_at(ip, identity, &authority.ca(), any);
    let host = format!("{NAME}:5432");
    for (at_first, at_second, serves) in [(&ours, &theirs, first), (&theirs, &ours, second)] {
        let _servers = [start(at_first, first), start(at_second, second)];
        let names = Names::default();
        names.set(NAME, &[first, second]);
        let proxy = Proxy::by_names(&names, &host, &full);
        let is_encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        assert_eq!(proxy.client().value(is_encrypted), "t");
        let servers = proxy.observe().servers();
        let peers: Vec<_> = servers.iter().map(|server| server.peer.to_string()).collect();
        assert!(peers.iter().all(|peer| peer.contains(&serves.to_string())), "{peers:?}");
    }

    // Who is asked for another name, or for none, has no certificate for it.
    let by_name = FakeServer::start_tls(ours.server_config_for(NAME), |peer| {
        peer.welcome();
        while let Some(message) = peer.read() {
            if message.tag != b'Q' {
                return;
            }
            peer.row("here");
            peer.complete("SELECT 1");
            peer.ready(b'I');
        }
    });
    let names = Names::default();
    names.set(NAME, &[Ipv4Addr::LOCALHOST]);
    let host = format!("{NAME}:{}", by_name.port());
    let slow = full.replace(BRISK, "");
    assert_eq!(Proxy::by_names(&names, &host, &slow).client().value("select 1"), "here");
}

/// P42: two families, of which the preferred one refuses, are one host all the same. By the system's resolver.
#[test]
fn localhost_is_one_host_whatever_its_addresses() {
    let postgres = Postgres::start();
    postgres.client().ask("alter database app_db set app.name = 'local'");
    let relay = Relay::before(&postgres);
    let host = format!("localhost:{}", relay.port());
    let proxy = Proxy::before(&host, BRISK);
    assert_eq!(who(&mut proxy.client()), "local");
    wait_for_hosts(&proxy, &[format!("{host} primary up")]);
    assert_eq!(proxy.pool().stats.connects_failed.value(), 0);
    drop(proxy);

    let names = Names::default();
    names.set::<IpAddr>("localhost", &[Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
    let proxy = Proxy::by_names(&names, &host, BRISK);
    assert_eq!(who(&mut proxy.client()), "local");
    wait_for_hosts(&proxy, &[format!("{host} primary up")]);
}

/// P42: the hosts are the addresses of one family, and the other's when none of these can be reached.
#[test]
fn a_name_goes_over_to_its_other_family_when_nothing_of_the_one_is_left() {
    let names = Names::default();
    let [mut a, mut b] = Site::start_all(["a", "b"]);
    let port = a.relay.port();
    let six = Site::start("six", (Ipv6Addr::LOCALHOST.into(), port));
    names.set(NAME, &[six.ip, a.ip, b.ip]);
    let host = format!("{NAME}:{port}");
    let proxy = Proxy::by_names(&names, &host, BRISK);
    let mut client = proxy.client();
    assert!(["a", "b"].contains(&&*who(&mut client)));
    let seen: Vec<_> = proxy.observe().hosts().iter().map(|shown| shown.host.to_string()).collect();
    assert_eq!(seen, [&a, &b].map(|site| format!("{host} ({})", site.ip)));

    a.crash();
    b.crash();

    assert_eq!(who_after_loss(&mut client), "six");
    wait_for_hosts(&proxy, &[format!("{host} primary up")]);
}

/// P41: more than 64 hosts, of which one is no name, one refuses, and one answers nothing.
#[test]
fn of_a_hundred_hosts_the_right_ones_serve() {
    let names = Names::default();
    let primary = Postgres::start();
    let relay = Relay::before(&primary);
    let here = replica(&primary, (Ipv4Addr::LOCALHOST, 0));
    let hole = FakeServer::start_raw(|mut peer| while peer.take(1).is_some() {});
    let refuses = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name = |number: usize| format!("h{number}.test");
    let port = |number: usize| match number {
        17 => hole.port(),
        42 => refuses,
        99 => relay.port(),
        _ => here.port(),
    };
    for number in (0..100).filter(|number| *number != 64) {
        names.set(&name(number), &[Ipv4Addr::LOCALHOST]);
    }
    let hosts: Vec<_> =
        (0..100).map(|number| format!("'{}:{}'", name(number), port(number))).collect();
    let settings = format!(
        "domains.main.hosts = [{}]\npool.size = 50\n\
         domains.main.health = {{ interval = '1s', timeout = '1s' }}",
        hosts.join(", ")
    );
    let begun = Instant::now();
    let proxy = Proxy::by_names(&names, "unused", &settings);

    let mut writer = proxy.client();
    assert_eq!(writer.value("select 'primary'"), "primary");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let mut readers: Vec<_> =
        (0..50).map(|_| proxy.client_with(&[("database", "main_ro")])).collect();
    for reader in &mut readers {
        assert_eq!(reader.value("select 'primary'"), "replica");
    }

    let expected = |number: usize| match number {
        17 | 42 | 64 => "unknown down",
        99 => "primary up",
        _ => "replica up",
    };
    let expected: Vec<_> = (0..100)
        .map(|number| format!("{}:{} {}", name(number), port(number), expected(number)))
        .collect();
    wait_for_hosts(&proxy, &expected);
    assert_eq!(writer.value("select 'primary'"), "primary");
}
