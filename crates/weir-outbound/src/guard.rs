//! From a name to addresses that have been checked. The client connects to what this returns and to nothing else,
//! so a name that means something else the next time it is asked (rebinding) gains nothing.

use crate::{Error, Networks, address};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

/// Which addresses may be reached.
#[derive(Clone, Debug)]
pub enum Reach {
    /// All: the operator named the server.
    Anywhere,
    /// Public addresses and these networks.
    Public(Networks),
    /// These networks only.
    Within(Networks),
}

impl Reach {
    pub fn admits(&self, address: IpAddr) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Public(allowed) => address::is_public(address) || allowed.contain(address),
            Self::Within(allowed) => allowed.contain(address),
        }
    }
}

pub type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// How names become addresses.
pub type Lookup = Arc<dyn Fn(String) -> Found + Send + Sync>;

/// The operating system's way.
pub fn system() -> Lookup {
    Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }))
}

/// A resolver that tells only addresses within reach.
pub struct Guard {
    pub reach: Reach,
    pub lookup: Lookup,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, found) = (self.reach.clone(), (self.lookup)(name.as_str().to_owned()));
        Box::pin(async move {
            let mut addresses = found.await?;
            let any = !addresses.is_empty();
            addresses.retain(|address| reach.admits(address.ip()));
            if any && addresses.is_empty() {
                return Err(Error::Forbidden.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
