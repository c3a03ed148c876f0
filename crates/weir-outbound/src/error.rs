//! What can go wrong on the way out.

use std::time::Duration;

/// Why a request brought no answer. None of these names an address or repeats the URL: they are shown to
/// whoever configured it, who is not to learn what a name means inside this network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The URL or a header cannot be used.
    #[error("the request cannot be made: {0}")]
    Invalid(String),
    /// The URL leads to where requests of this kind must not go.
    #[error(
        "the host has no address that may be reached: only public addresses, and the networks of `outbound.allow_networks`, are"
    )]
    Forbidden,
    /// Nobody answered, or not in HTTP, or its certificate is not trusted.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// It took longer than it may.
    #[error("the answer took longer than {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The answer is larger than it may be.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The answer sends us elsewhere, which is never followed.
    #[error("the server answered with a redirect (status {0}), which is not followed: use the final URL")]
    Redirect(u16),
}

impl Error {
    /// True when the same request can succeed later without anybody changing its configuration.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Timeout(_))
    }
}
