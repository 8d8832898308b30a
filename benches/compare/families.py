"""What is run: every family of scenarios."""

from loads import Application, Closed, Open, Pgbench
from memory import Weigh
from scenarios import FIRST, Family, Figure, Scenario
from targets import FILES_BESIDE, Setup

PROXIES = ("haproxy", "pgbouncer", "pgweir")
NULL = Setup(server="null")
SIMPLE = ("-n", "-S", "-M", "simple")
PREPARED = ("-n", "-S", "-M", "prepared")
#: pgbench's select, for loads that are not pgbench.
SELECT = "select abalance from pgbench_accounts where aid = {}"
#: So many different texts of it.
TEXTS = 1000

CPU = Figure("cpu_us", "CPU of the proxy per transaction", "µs", "haproxy", own=True)
CPU_GROWTH = Figure("cpu_us", "CPU of the proxy per transaction", "µs", FIRST, own=True)
TPS = Figure("tps", "Transactions per second", "", "direct")
SWITCHES = Figure("switches", "Voluntary context switches of the proxy per transaction", own=True)
P50 = Figure("p50_us", "Median of the latency", "µs", "haproxy")
P99 = Figure("p99_us", "99 % of the latency", "µs", "haproxy")
P999 = Figure("p999_us", "99.9 % of the latency", "µs", "haproxy")

CORE = Family("core", "The core", (
    Scenario("a", "-S simple c=8", Pgbench(8, SIMPLE)),
    Scenario("b", "-S prepared c=8", Pgbench(8, PREPARED), prepared=True),
    Scenario("c", "-S extended c=8", Pgbench(8, ("-n", "-S", "-M", "extended"))),
    Scenario("d", "-S prepared c=64", Pgbench(64, PREPARED), prepared=True),
    Scenario("e", "-S prepared c=250", Pgbench(250, PREPARED), prepared=True),
    Scenario("f", "select 1 simple c=32",
             Pgbench(32, ("-n", "-M", "simple"), (("select 1;\n", 1),))),
    Scenario("g", "connect per tx c=8", Pgbench(8, (*SIMPLE, "-C"))),
    Scenario("h", "100k rows c=2", Pgbench(2, ("-n", "-M", "simple"), (
        ("select * from pgbench_accounts limit 100000;\n", 1),))),
    # Without -n: pgbench vacuums its small tables first, before the measured window.
    Scenario("i", "TPC-B simple c=16", Pgbench(16, ("-M", "simple"))),
), (CPU, TPS, SWITCHES))

LIGHT = "\\set aid random(1, 100000)\nselect abalance from pgbench_accounts where aid = :aid;\n"
HEAVY = ("\\set aid random(1, 90000)\n"
         "select sum(abalance) from pgbench_accounts where aid between :aid and :aid + 9999;\n")
BLOCK = f"\\set aid random(1, 100000)\nbegin;\n{LIGHT.splitlines()[1]}\ncommit;\n"

TRANSACTIONS = Family("transactions", "Transactions", (
    Scenario("mix", "19 light ones to 1 heavy one, simple c=32",
             Pgbench(32, ("-n", "-M", "simple"), ((LIGHT, 19), (HEAVY, 1)), timed_script=0)),
    Scenario("block", "BEGIN, select, COMMIT as three messages c=16",
             Pgbench(16, ("-n", "-M", "simple"), ((BLOCK, 1),))),
), (CPU, TPS,
    Figure("p50_us", "Median of the light ones' latency", "µs", "haproxy"),
    Figure("p99_us", "99 % of the light ones' latency", "µs", "haproxy")))

ENCRYPTED = Family("tls", "TLS", (
    Scenario("tls-client", "-S simple c=8, TLS to the clients", Pgbench(8, SIMPLE),
             Setup(tls_client=True)),
    Scenario("tls-server", "-S simple c=8, TLS to PostgreSQL", Pgbench(8, SIMPLE),
             Setup(tls_server=True)),
    Scenario("tls-both", "-S simple c=8, TLS on both sides", Pgbench(8, SIMPLE),
             Setup(tls_client=True, tls_server=True)),
), (CPU, TPS))

LOGIN = Family("login", "Logins", (
    Scenario("scram", "connect per tx c=8, SCRAM", Pgbench(8, (*SIMPLE, "-C")),
             Setup(auth="scram-sha-256")),
), (CPU, TPS))

SLOW = Family("slow", "A slow reader", (
    Scenario("slow-without", "light queries c=8", Closed(8, SELECT, TEXTS), series="slow", share=0.5),
    Scenario("slow-with", "the same beside one that reads 1 MB/s",
             Closed(8, SELECT, TEXTS, slow_reader=1_000_000), series="slow", share=0.5),
), (Figure("p99_us", "99 % of the others' latency", "µs", FIRST),
    Figure("tps", "The others' transactions per second", "", FIRST)))


def null_family():
    """Clients × pool sizes before a server that answers at once: the proxy is what saturates."""
    simple = [Scenario(f"null-{clients}x{pool}", f"simple c={clients}, pool of {pool}", Closed(clients),
                       Setup("null", pool), series=f"null-x{pool}", only=PROXIES, share=0.25)
              for pool in (20, 1, 100) for clients in (8, 64, 512, 2000, 10000)]
    prepared = [Scenario(f"null-{clients}x20p", f"prepared c={clients}, pool of 20",
                         Closed(clients, prepared=True), NULL, prepared=True, series="null-x20p",
                         only=PROXIES, share=0.25)
                for clients in (8, 64, 512, 2000, 10000)]
    return Family("null", "A server that answers at once", (*simple, *prepared), (
        CPU, Figure("cpu_us", "CPU of the proxy per transaction, as clients are added", "µs", FIRST,
                    own=True),
        Figure("tps", "Transactions per second", "", "haproxy")))


def idle_family(clients):
    """So many clients that only stay connected, beside 8 that ask."""
    return Family("idle", "Idle clients", (
        Scenario("idle-without", "select 1 simple c=8", Closed(8), NULL, series="idle", only=PROXIES,
                 share=0.5),
        Scenario("idle-with", f"the same beside {clients} that are idle", Closed(8, idle=clients), NULL,
                 series="idle", only=PROXIES, share=0.5),
    ), (CPU, CPU_GROWTH, Figure("p50_us", "Median of the latency", "µs", FIRST),
        Figure("p99_us", "99 % of the latency", "µs", FIRST),
        Figure("memory_mb", "Resident memory", "MB", own=True)))


def idle_clients(files):
    """10,000, or as many as haproxy bears with that many open files."""
    return min(10000, (files - FILES_BESIDE) // 2 - 50)


def rate_family():
    """Latencies at rates that all bear: shares of what haproxy does in a closed loop in the same run."""
    scenarios = []
    for server, text, texts, only in (("postgres", SELECT, TEXTS, ()), ("null", "select 1", 1, PROXIES)):
        saturated = f"rate-{server}-full"
        scenarios.append(Scenario(saturated, f"{server}: closed loop, c=64, pool of 20",
                                  Closed(64, text, texts), Setup(server), only=only, share=0.75))
        scenarios += [Scenario(f"rate-{server}-{percent}", f"{server}: {percent} % of haproxy's",
                               Open(64, text, texts, share=percent / 100, saturated=saturated),
                               Setup(server), only=only, share=0.75, needs=saturated)
                      for percent in (30, 50, 70, 85)]
    return Family("rate", "Latency at fixed rates", tuple(scenarios), (
        Figure("tps", "Transactions per second"), P50, P99, P999,
        Figure("tail", "99 % of the latency over its median"),
        Figure("left_over", "Requests that nobody came to begin")))


def scale_family():
    """What should not cost more as there is more of it. Clients are in the null family."""
    same = {"only": ("pgweir",), "share": 0.25}
    pools = [Scenario(f"scale-pools-{pools}", f"pools: {pools} of {200 // pools}, simple c=200", Closed(200),
                      Setup("null", 200 // pools, pools), series="scale-pools", **same)
             for pools in (1, 20, 200)]
    texts = [Scenario(f"scale-texts-{texts}", f"texts: {texts}, prepared c=8", _prepared(texts),
                      Setup("null", statements=10000), series="scale-texts", **same)
             for texts in (10, 100, 1000, 10000)]
    texts.append(Scenario("scale-texts-lru", "texts: 10000, prepared c=8, 200 kept per server",
                          _prepared(10000), NULL, series="scale-texts", **same))
    workers = [Scenario(f"scale-workers-{workers}", f"workers: {workers}, simple c=64", Closed(64),
                        Setup("null", workers=workers), series="scale-workers", **same)
               for workers in (1, 2, 4, 8)]
    return Family("scale", "Scale", (*pools, *texts, *workers), (
        CPU_GROWTH, Figure("tps", "Transactions per second", "", FIRST)))


def _prepared(texts):
    return Closed(8, "select {}", texts, prepared=True)


def seeds_family():
    """What the documents that pgweir began with promise of a pool."""
    def scenario(topic, title, connections=1, **more):
        return Scenario(f"seed-{topic}", title, Application(topic, connections), share=0.25, **more)

    return Family("seeds", "An application", (
        scenario("connect", "connect, query, close (psycopg2)"),
        scenario("requests", "50 requests of 15 ms at once, each with a connection, where PostgreSQL allows 20",
                 50, setup=Setup(limited=True)),
        scenario("sequence", "three queries of 15 ms, one after another (asyncpg)", series="seed-three"),
        scenario("concurrent", "three queries of 15 ms at once (asyncpg)", 3, series="seed-three"),
        scenario("loop", "1000 rows, execute in a loop (psycopg2)", series="seed-rows"),
        scenario("executemany", "1000 rows, executemany (psycopg2)", series="seed-rows"),
        scenario("execute_batch", "1000 rows, execute_batch (psycopg2)", series="seed-rows"),
        scenario("execute_values", "1000 rows, execute_values (psycopg2)", series="seed-rows"),
        scenario("asyncpg", "1000 rows, executemany (asyncpg)", series="seed-rows"),
    ), (Figure("ms", "Time of one", "ms", "direct"),
        Figure("requests_per_minute", "Requests per minute", "", "direct"),
        Figure("errors_percent", "Requests that failed", "%")))


def memory_family(clients):
    return Family("memory", "Memory", (
        Scenario("memory", f"{clients} clients", Weigh(clients), NULL, only=PROXIES),
    ), (
        Figure("base_mb", "Resident memory without clients", "MB", own=True),
        Figure("idle_kb", "Resident memory per client that has logged in", "KB", own=True),
        Figure("queried_kb", "Resident memory per client that has asked once", "KB", own=True),
    ))


def families(memory_clients, idle_clients):
    """All there are, in the order in which they are run."""
    return (CORE, TRANSACTIONS, ENCRYPTED, LOGIN, SLOW, null_family(), idle_family(idle_clients),
            rate_family(), scale_family(), seeds_family(), memory_family(memory_clients))
