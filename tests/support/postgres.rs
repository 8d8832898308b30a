//! A real PostgreSQL for each test: a copy of a cluster that was made once, which costs a fifth of
//! making one.
//!
//! It listens on a Unix socket alone, so that no two tests can get into each other's port. A shell
//! that waits for the end of its input stands between the test and the server: however the test
//! ends, the server is stopped and its folder removed.

use std::env;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::authority::Issued;
use super::raw_client::Client;
use super::socket::Address;
use super::wait::wait_until;

/// The database that tests use.
pub const DATABASE: &str = "app_db";
/// The role that owns it, which may do anything in it. `trust` lets it in.
pub const USER: &str = "app";

/// Part of the template's name: a change of what is below makes a new one.
const EDITION: u32 = 3;

const HBA: &str = "\
local all app_md5   md5
local all app_plain password
local all app_scram scram-sha-256
local all all       trust
";

const SETTINGS: &str = "
listen_addresses = ''
max_connections = 50
superuser_reserved_connections = 3
shared_buffers = 8MB
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_prepared_transactions = 5
max_logical_replication_workers = 0
max_parallel_workers = 0
autovacuum = off
min_wal_size = 2MB
max_wal_size = 16MB
huge_pages = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %a '
";

/// One statement per line: that is what a server in single-user mode reads. Databases that nobody
/// needs would be copied for each test.
const ROLES: &str = "\
CREATE ROLE app LOGIN;
CREATE ROLE app_two LOGIN;
CREATE ROLE app_scram LOGIN PASSWORD 'scram secret';
CREATE ROLE app_plain LOGIN PASSWORD 'plain secret';
SET password_encryption = 'md5';
CREATE ROLE app_md5 LOGIN PASSWORD 'md5 secret';
GRANT pg_signal_backend TO app;
CREATE DATABASE app_db OWNER app;
CREATE DATABASE other_db OWNER app;
UPDATE pg_database SET datistemplate = false WHERE datname = 'template0';
DROP DATABASE template0;
DROP DATABASE postgres;
CHECKPOINT;
";

/// A running cluster. Its end is its drop.
#[derive(Debug)]
pub struct Postgres {
    folder: tempfile::TempDir,
    /// The shell that the server belongs to, and the server of this moment.
    guard: Option<Child>,
}

impl Postgres {
    /// Starts a cluster of its own.
    pub fn start() -> Self {
        Self::start_with("", "")
    }

    /// Starts one that others may replicate from, `app` included.
    pub fn start_replicated() -> Self {
        let settings = "wal_level = logical\nmax_wal_senders = 5\nmax_replication_slots = 5\n";
        let postgres = Self::start_with(settings, "local replication all trust\n");
        postgres.client().value("alter role app replication");
        postgres
    }

    fn start_with(settings: &str, hba: &str) -> Self {
        let folder = temporary_folder();
        let data = folder.path().join("data");
        copy(&template(), &data);
        append(&data.join("postgresql.conf"), settings);
        append(&data.join("pg_hba.conf"), hba);
        give_away(folder.path());
        let mut postgres = Self { folder, guard: None };
        postgres.resume();
        postgres
    }

    /// Starts a cluster that listens at [`loopback`] too, with TLS. It shows `identity`, and `hba` says
    /// who is let in from there.
    pub fn start_with_tls(identity: &Issued, ca: &Path, hba: &str) -> Self {
        Self::start_with_tls_at(loopback(), identity, ca, hba)
    }

    /// The same at another address.
    pub fn start_with_tls_at(ip: Ipv4Addr, identity: &Issued, ca: &Path, hba: &str) -> Self {
        let folder = temporary_folder();
        let data = folder.path().join("data");
        copy(&template(), &data);
        for (from, name) in
            [(identity.cert.as_path(), "server.crt"), (&identity.key, "server.key"), (ca, "ca.crt")]
        {
            fs::copy(from, data.join(name)).unwrap();
        }
        let tls = "ssl = on\nssl_ca_file = 'ca.crt'";
        let settings = format!("listen_addresses = '{ip}'\n{tls}\n");
        append(&data.join("postgresql.conf"), &settings);
        fs::write(data.join("pg_hba.conf"), format!("{HBA}{hba}\n")).unwrap();
        give_away(folder.path());
        let mut postgres = Self { folder, guard: None };
        postgres.resume();
        postgres
    }

    /// As a configuration names the address of one that was started with TLS.
    pub fn tcp_host(&self) -> String {
        assert!(self.guard.is_some(), "PostgreSQL does not run");
        format!("{}:5432", loopback())
    }

    /// Starts the server that `stop` stopped.
    pub fn resume(&mut self) {
        assert!(self.guard.is_none(), "PostgreSQL runs already");
        let log = fs::File::create(self.log_file()).unwrap();
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(program("postgres"))
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .arg("-k")
            .arg(self.folder.path())
            .current_dir(self.folder.path())
            .env("PGWEIR_FOLDER", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // What ends the test's process group must not end the guard first.
            .process_group(0)
            .unprivileged()
            .spawn();
        self.guard = Some(guard.unwrap());
        wait_until("PostgreSQL answers", || self.answers());
    }

    /// Stops the server as a crash would.
    pub fn stop(&mut self) {
        let Some(mut guard) = self.guard.take() else { return };
        drop(guard.stdin.take());
        guard.wait().unwrap();
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("postgres.log")
    }

    /// It lets clients in.
    pub fn answers(&self) -> bool {
        let Address::Unix(path) = self.address() else { return false };
        if std::os::unix::net::UnixStream::connect(path).is_err() {
            return false;
        }
        let login = [("user", "postgres"), ("database", DATABASE)];
        match Client::try_log_in(&self.address(), &login) {
            Ok(_) => true,
            Err(error) if error.code() == "57P03" => false,
            Err(error) => panic!("{error:?}\n{}", self.log()),
        }
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// As a configuration names this host.
    pub fn host(&self) -> String {
        format!("{}:5432", self.folder.path().display())
    }

    pub fn address(&self) -> Address {
        Address::Unix(self.folder.path().join(".s.PGSQL.5432"))
    }

    /// A superuser's connection past every proxy.
    #[track_caller]
    pub fn client(&self) -> Client {
        let login =
            [("user", "postgres"), ("database", DATABASE), ("application_name", "observer")];
        Client::log_in(&self.address(), &login)
    }

    /// How many connections there are besides the observers'.
    #[track_caller]
    pub fn connections(&self) -> usize {
        let text = "select count(*) from pg_stat_activity \
                    where backend_type = 'client backend' and application_name <> 'observer'";
        self.client().value(text).parse().unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn append(file: &Path, text: &str) {
    let mut content = fs::read_to_string(file).unwrap();
    content.push_str(text);
    fs::write(file, content).unwrap();
}

/// An address of this process's own, so that no two can get into each other's port.
pub fn loopback() -> Ipv4Addr {
    let [first, ..] = loopbacks();
    first
}

/// Several of them.
pub fn loopbacks() -> [Ipv4Addr; 3] {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    // 127.0.0.0/16 is left to everybody else, and process numbers have 22 bits.
    [64, 128, 192].map(|part| Ipv4Addr::new(127, part | high, middle, low))
}

/// Runs the server until the input ends. `wait` returns early for a signal, hence the folder goes
/// only after the server has.
const GUARD: &str = r#"
"$@" < /dev/null &
server=$!
cat > /dev/null
kill -QUIT $server
wait $server
"#;

/// The folder of a cluster that has the roles and databases of the tests and does not run.
fn template() -> PathBuf {
    let version = Command::new(program("postgres")).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8_lossy(&version);
    let version: String = version.chars().filter(char::is_ascii_digit).collect();
    let name = format!("pg-template-{version}-{EDITION}");
    let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if template.exists() {
        return template;
    }
    let folder = temporary_folder();
    give_away(folder.path());
    let data = folder.path().join("data");
    initdb(&data);
    // Two processes may both have come to this point: the first to rename wins.
    let mine = template.with_extension(std::process::id().to_string());
    copy(&data, &mine);
    if fs::rename(&mine, &template).is_err() {
        fs::remove_dir_all(&mine).unwrap();
    }
    assert!(template.exists());
    template
}

fn initdb(data: &Path) {
    let mut initdb = Command::new(program("initdb"));
    initdb.arg("-D").arg(data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8"]);
    initdb.args(["--locale=C", "--no-sync", "--no-instructions", "--wal-segsize=1"]);
    run(initdb, "");
    let mut settings = fs::read_to_string(data.join("postgresql.conf")).unwrap();
    settings.push_str(SETTINGS);
    fs::write(data.join("postgresql.conf"), settings).unwrap();
    fs::write(data.join("pg_hba.conf"), HBA).unwrap();
    let mut single = Command::new(program("postgres"));
    single.args(["--single", "-D"]).arg(data).arg("template1");
    run(single, ROLES);
    // What making the databases has logged is of no use to anybody.
    // Some builds come without the program, and that of another version is of no use either.
    let reset = program("postgres").with_file_name("pg_resetwal");
    if reset.exists() {
        let mut reset = Command::new(reset);
        reset.arg("-D").arg(data);
        run(reset, "");
    }
}

/// Runs a program of PostgreSQL's to its end.
fn run(mut command: Command, input: &str) {
    let mut child = command
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .unprivileged()
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
    drop(stdin);
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && !said.contains("ERROR:"), "{command:?}: {said}");
}

/// Where one of PostgreSQL's programs is: `$PG_BIN`, `PATH`, Debian's folders with the newest first.
fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let named = env::var_os("PG_BIN").map(PathBuf::from);
    let mut debian: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    debian.sort_by_key(|folder| std::cmp::Reverse(major_version(folder)));
    named
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(debian)
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| {
            panic!("PostgreSQL's `{name}` was not found: run tests/setup.sh, or set PG_BIN")
        })
}

fn major_version(bin: &Path) -> u32 {
    let version = bin.parent().and_then(Path::file_name).map(|name| name.to_string_lossy());
    version.and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(done.success(), "cp -r {} {}", from.display(), to.display());
}

fn temporary_folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("pgweir-it-").tempdir_in(roomy_folder()).unwrap()
}

/// Where a cluster is copied to: into memory where there is plenty of it, which is ten times as fast
/// as most disks; else where all temporary files go.
fn roomy_folder() -> PathBuf {
    const MEMORY: &str = "/dev/shm";
    const KIB_LEAST: u64 = 1 << 20;
    let asked = Command::new("df").args(["-Pk", MEMORY]).output();
    let table = asked.map(|done| String::from_utf8_lossy(&done.stdout).into_owned());
    let row = table.unwrap_or_default().lines().nth(1).map(ToOwned::to_owned).unwrap_or_default();
    let free = row.split_whitespace().nth(3).and_then(|kib| kib.parse::<u64>().ok());
    if row.ends_with(MEMORY) && free.is_some_and(|kib| kib >= KIB_LEAST) {
        MEMORY.into()
    } else {
        env::temp_dir()
    }
}

/// The user that PostgreSQL runs as if we are root, whom it refuses: `nobody`.
const UNPRIVILEGED: u32 = 65_534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Lets the unprivileged user have a folder, for whom 0700 is right (PostgreSQL insists on it).
fn give_away(folder: &Path) {
    let mut commands = vec![Command::new("chmod")];
    commands[0].args(["-R", "u=rwX,go="]);
    if is_root() {
        let mut chown = Command::new("chown");
        chown.arg("-R").arg(format!("{UNPRIVILEGED}:{UNPRIVILEGED}"));
        commands.push(chown);
    }
    for mut command in commands {
        assert!(command.arg(folder).status().unwrap().success(), "{command:?}");
    }
}

trait Unprivileged {
    /// Runs as a user whom PostgreSQL does not refuse.
    fn unprivileged(&mut self) -> &mut Self;
}

impl Unprivileged for Command {
    fn unprivileged(&mut self) -> &mut Self {
        if is_root() { self.uid(UNPRIVILEGED).gid(UNPRIVILEGED) } else { self }
    }
}
