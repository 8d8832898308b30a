//! A resolver that knows what a test tells it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use pgweir::net::resolve::{Answer, Resolve};

use super::wait::wait_until;

/// Names and where they lead, which a test may change while they are asked for. Of others it knows nothing.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<String, Vec<IpAddr>>,
    /// How often each was asked for.
    asked: BTreeMap<String, usize>,
    hangs: bool,
}

impl Names {
    /// Has `name` lead to `addresses` from now on, the preferred one first.
    pub fn set<A: Into<IpAddr> + Copy>(&self, name: &str, addresses: &[A]) {
        let addresses = addresses.iter().map(|address| (*address).into()).collect();
        self.0.lock().unwrap().known.insert(name.to_owned(), addresses);
    }

    /// Nobody knows `name` any more.
    pub fn forget(&self, name: &str) {
        self.0.lock().unwrap().known.remove(name);
    }

    /// No question is answered any more.
    pub fn hang(&self) {
        self.0.lock().unwrap().hangs = true;
    }

    /// How often `name` was asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.0.lock().unwrap().asked.get(name).copied().unwrap_or_default()
    }

    /// Waits until `name` was asked for so many times more.
    #[track_caller]
    pub fn wait_for_questions(&self, name: &str, more: usize) {
        let before = self.asked(name);
        wait_until(&format!("{name} is looked up"), || self.asked(name) >= before + more);
    }
}

impl Resolve for Names {
    fn resolve<'a>(
        &'a self,
        name: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        let (known, hangs) = {
            let mut state = self.0.lock().unwrap();
            *state.asked.entry(name.to_owned()).or_default() += 1;
            (state.known.get(name).cloned(), state.hangs)
        };
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            let known = known.ok_or_else(|| io::Error::other("Name or service not known"))?;
            Ok(known.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
        })
    }
}
