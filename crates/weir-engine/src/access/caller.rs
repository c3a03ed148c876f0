//! Who is calling, and what they may do. Made by authentication, cheap to share, never changed: a
//! change of permission makes a new one.

use super::signing::{Remote, Thumbprint};
use crate::Error;
use crate::limits::{Decision, Rates};
use crate::schemas::Cell;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use weir_core::{
    Code, KeyId, Limits, Pattern, ProjectLimits, Role, Scope, Scopes, SigningKeyId, Timestamp, Topic, UserId,
};
use weir_log::Place;

/// Which credential it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A server's API key.
    Key(KeyId),
    /// A member who signed in.
    Member {
        /// Who.
        user: UserId,
        /// The role at this moment.
        role: Role,
        /// The user's session version that the token was issued under.
        version: i64,
    },
    /// An end user's device, by a token of the tenant.
    Client {
        /// The key that signed the token.
        signer: SigningKeyId,
        /// Which key it was, if the signer is a set of keys.
        key: Option<Thumbprint>,
        /// The tenant's name for the user.
        subject: Option<Arc<str>>,
    },
}

/// What the credential allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Scopes over the whole project.
    Scopes(Scopes),
    /// Topic by topic.
    Topics {
        /// Patterns that may be subscribed to and replayed.
        subscribe: Arc<[Pattern]>,
        /// Patterns that may be published to.
        publish: Arc<[Pattern]>,
    },
}

/// What a client token says, once verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The tenant's name for the user.
    pub sub: Option<String>,
    /// When the token ends, seconds since 1970.
    pub exp: i64,
    /// Patterns that may be subscribed to and replayed.
    #[serde(default)]
    pub subscribe: Vec<Pattern>,
    /// Patterns that may be published to.
    #[serde(default)]
    pub publish: Vec<Pattern>,
}

/// An authenticated caller.
#[derive(Debug)]
pub struct Caller {
    /// Whose events, and where they are kept.
    pub place: Place,
    /// Which credential.
    pub who: Who,
    /// What it allows.
    pub grant: Grant,
    /// The tenant's limits.
    pub limits: Arc<Limits>,
    /// The project's own.
    pub project_limits: ProjectLimits,
    /// When the credential ends.
    pub expires_at: Option<Timestamp>,
    /// When a live connection with it is closed: `expires_at`, with the tolerance that tokens have.
    pub(crate) ends_at: Option<Timestamp>,
    /// What the project's payloads must look like, always as it is now.
    pub(crate) schemas: Arc<Cell>,
    /// The rates of the credential, the project and the tenant, shared by everything that they are the limit of.
    pub(crate) rates: Rates,
    /// The fetched key set that the token's key is of: held, because a set that somebody holds is kept up to date.
    #[allow(dead_code, reason = "held, not read")]
    pub(crate) key_set: Option<Arc<Remote>>,
}

impl Caller {
    /// Takes `units` of every rate that the caller has to keep. `None` when it has none.
    #[must_use]
    pub fn take(&self, units: u32) -> Option<Decision> {
        self.rates.take(units)
    }

    /// Checks the permission to publish on a topic.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`, naming what is missing.
    pub fn may_publish(&self, topic: &Topic) -> Result<(), Error> {
        let allowed = match &self.grant {
            Grant::Scopes(_) => return self.require(Scope::EventsPublish),
            Grant::Topics { publish, .. } => publish.iter().any(|pattern| pattern.matches(topic.as_str())),
        };
        if allowed {
            return Ok(());
        }
        Err(Error::new(
            Code::InsufficientScope,
            format!("The token does not allow publishing to `{topic}`; its `publish` claim must name a pattern that matches."),
        )
        .with(json!({ "topic": topic.as_str(), "missing": Scope::EventsPublish })))
    }

    /// Checks the permission to read everything that these patterns select.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`, naming the pattern.
    pub fn may_subscribe(&self, patterns: &[Pattern]) -> Result<(), Error> {
        let refused = match &self.grant {
            Grant::Scopes(_) => return self.require(Scope::EventsSubscribe),
            Grant::Topics { subscribe, .. } => {
                patterns.iter().find(|wanted| !subscribe.iter().any(|pattern| pattern.covers(wanted)))
            }
        };
        let Some(pattern) = refused else { return Ok(()) };
        Err(Error::new(
            Code::InsufficientScope,
            format!("The token does not allow subscribing to `{pattern}`; its `subscribe` claim must name a pattern that covers it."),
        )
        .with(json!({ "pattern": pattern.as_str(), "missing": Scope::EventsSubscribe })))
    }

    /// Checks one scope of an API key; client tokens hold none.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`, naming it.
    pub fn require(&self, scope: Scope) -> Result<(), Error> {
        match &self.grant {
            Grant::Scopes(scopes) if scopes.contains(scope) => Ok(()),
            _ => Err(Error::new(
                Code::InsufficientScope,
                format!("This needs the scope `{scope}`, which the credentials do not hold."),
            )
            .with(json!({ "missing": scope }))),
        }
    }
}
