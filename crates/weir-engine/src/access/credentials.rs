//! Credentials as they arrive, before anyone has looked at them.

use weir_core::{ProjectId, Secret};

/// Something that a caller presents to say who it is.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// An API key.
    ApiKey(Secret),
    /// A client token (JWT).
    Token(Secret),
    /// A ticket made by `issue_ticket`.
    Ticket(Secret),
    /// A token, with the project that its bearer names: a member's says only the tenant.
    TokenIn(Secret, ProjectId),
}

impl Credentials {
    /// An API key.
    #[must_use]
    pub fn api_key(text: &str) -> Self {
        Self::ApiKey(Secret::new(text))
    }

    /// A client token.
    #[must_use]
    pub fn token(text: &str) -> Self {
        Self::Token(Secret::new(text))
    }

    /// A ticket.
    #[must_use]
    pub fn ticket(text: &str) -> Self {
        Self::Ticket(Secret::new(text))
    }

    /// The same, in a project; it makes a difference to members only.
    #[must_use]
    pub fn in_project(self, project: Option<ProjectId>) -> Self {
        match (self, project) {
            (Self::Token(token), Some(project)) => Self::TokenIn(token, project),
            (other, _) => other,
        }
    }

    /// What stands after `Bearer`: a token has two dots, an API key none.
    #[must_use]
    pub fn bearer(text: &str) -> Self {
        if text.contains('.') { Self::token(text) } else { Self::api_key(text) }
    }
}
