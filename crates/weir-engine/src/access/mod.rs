//! From a credential to a [`Caller`], and keeping the answer true: what is cached is dropped when the
//! store announces a change, and a node that has not been able to look for changes stops.

mod caller;
mod clients;
mod credentials;
mod directory;
mod freshness;
mod member;
mod principal;
mod signing;
mod ticket;
mod token;
mod watch;

pub use caller::{Caller, Claims, Grant, Who};
pub use credentials::Credentials;
pub use member::Person;
pub use principal::{Principal, Reach};
pub use signing::{KeySetTimes, SigningInput, Thumbprint};
pub use ticket::Ticket;

pub(crate) use directory::Access;
pub(crate) use signing::{KeySet, Remote};
pub(crate) use ticket::Stands;
pub(crate) use token::{Audience, NumericDate, Token};
