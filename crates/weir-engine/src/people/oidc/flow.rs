//! What ties the end of a sign-in to its beginning.

use super::Returned;
use crate::Error;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::time::Duration;
use weir_core::{Code, RootSecret, Secret, Timestamp};

/// How long somebody may take at the provider.
pub(super) const LIFETIME: Duration = Duration::from_secs(10 * 60);
/// What the text of a flow begins with.
const PREFIX: &str = "wof_";

/// One sign-in. Everything in it follows from one random number, which only the browser keeps.
pub(super) struct Flow {
    /// Goes through the provider and back.
    pub(super) state: String,
    /// Is in the provider's token.
    pub(super) nonce: String,
    /// PKCE: shown to the provider only with the code.
    pub(super) verifier: String,
}

impl Flow {
    /// PKCE: shown to the provider at the beginning.
    pub(super) fn challenge(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.as_bytes()))
    }
}

/// Begins and resumes flows.
pub(super) struct Flows(hmac::Key);

impl Flows {
    pub(super) fn new(root: &RootSecret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &root.derive("oidc-flow")))
    }

    /// A new flow, and the text that the browser keeps.
    pub(super) fn start(&self, now: Timestamp) -> (Flow, Secret) {
        let random: [u8; 32] = rand::random();
        let body = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(random), now.plus(LIFETIME).seconds());
        let text = format!("{PREFIX}{body}.{}", self.derived("flow", &body));
        (self.flow(&body), Secret::new(text))
    }

    /// The flow that a browser kept and comes back for.
    ///
    /// # Errors
    /// `INVALID_TOKEN` for one that is changed, and for the state of another one; `EXPIRED_TOKEN`.
    pub(super) fn resume(&self, returned: &Returned, now: Timestamp) -> Result<Flow, Error> {
        let refused = || {
            let message = "`flow` and `state` do not belong to one sign-in that began here: begin again.";
            Error::new(Code::InvalidToken, message)
        };
        let text = returned.flow.expose().strip_prefix(PREFIX).ok_or_else(refused)?;
        let (body, tag) = text.rsplit_once('.').ok_or_else(refused)?;
        if !self.is_derived("flow", body, tag) || !self.is_derived("state", body, returned.state.expose()) {
            return Err(refused());
        }
        let (_, end) = body.split_once('.').ok_or_else(refused)?;
        let end = Timestamp::from_seconds(end.parse().map_err(|_| refused())?);
        if end <= now {
            return Err(Error::new(Code::ExpiredToken, "The sign-in took too long: begin again."));
        }
        Ok(self.flow(body))
    }

    fn flow(&self, body: &str) -> Flow {
        let [state, nonce, verifier] = ["state", "nonce", "verifier"].map(|what| self.derived(what, body));
        Flow { state, nonce, verifier }
    }

    fn derived(&self, what: &str, body: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, format!("{what}:{body}").as_bytes()))
    }

    /// The same, compared in constant time.
    fn is_derived(&self, what: &str, body: &str, text: &str) -> bool {
        let Ok(tag) = BASE64_URL_SAFE_NO_PAD.decode(text) else { return false };
        hmac::verify(&self.0, format!("{what}:{body}").as_bytes(), &tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn returned(flow: &str, state: &str) -> Returned {
        Returned { flow: Secret::new(flow), state: Secret::new(state), code: Secret::new("x") }
    }

    #[test]
    fn a_flow_is_resumed_with_its_own_state_in_time_on_any_node() {
        let root = RootSecret::generate();
        let (flow, text) = Flows::new(&root).start(NOW);
        let flows = Flows::new(&root);
        let again = flows.resume(&returned(text.expose(), &flow.state), NOW).expect("resumes");
        assert_eq!((&again.nonce, &again.verifier), (&flow.nonce, &flow.verifier));
        assert!((43..=128).contains(&flow.verifier.len()), "as RFC 7636 wants it");
        assert_ne!(flow.state, flow.nonce);
        assert_ne!(flow.nonce, flow.verifier);
        let late = flows.resume(&returned(text.expose(), &flow.state), NOW.plus(LIFETIME));
        assert_eq!(late.map(|_| ()).expect_err("late").code, Code::ExpiredToken);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let root = RootSecret::generate();
        let flows = Flows::new(&root);
        let ((mine, text), (other, _)) = (flows.start(NOW), flows.start(NOW));
        let later = text.expose().replace("1800000600", "1900000600");
        assert_ne!(later, text.expose());
        for (flow, state) in [
            (text.expose(), other.state.as_str()),
            (text.expose(), ""),
            (&later, &mine.state),
            ("wof_", &mine.state),
            ("", ""),
        ] {
            let refused = flows.resume(&returned(flow, state), NOW).map(|_| ()).expect_err("refused");
            assert_eq!(refused.code, Code::InvalidToken, "{flow} {state}");
        }
        let elsewhere = Flows::new(&RootSecret::generate());
        assert!(elsewhere.resume(&returned(text.expose(), &mine.state), NOW).is_err());
    }
}
