//! Passwords: argon2id with the parameters that OWASP recommends (19 MiB, 2 passes, 1 lane), few at once.

use crate::Error;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Argon2, Params};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use weir_core::{Code, Secret};

/// How long a password is, in characters.
pub const PASSWORD_LENGTH: std::ops::RangeInclusive<usize> = 12..=256;

/// Sign-ins that may wait for their turn on this node; one takes some 50 ms of a processor and 19 MiB.
const WAITING: usize = 200;

/// Hashes and verifies passwords.
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// The hash of a password that nobody has: verified against where there is no user, so that the time that an
    /// answer takes does not tell whether there is one.
    nobody: Secret,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not the password.
    Wrong,
    /// The password.
    Right,
    /// The password, whose hash is cheaper than hashes are now: this is to be kept instead.
    Outdated(Secret),
}

impl Passwords {
    /// Takes a moment: hashes one password.
    ///
    /// # Errors
    /// If hashing fails, which it does for want of memory only.
    pub(crate) async fn new() -> Result<Self, Error> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let turns = Arc::new(Semaphore::new((processors / 2).clamp(1, 4)));
        let unknown: [u8; 32] = rand::random();
        let nobody = blocking(move || hash(&unknown)).await?;
        Ok(Self { turns, waiting: AtomicUsize::new(0), nobody })
    }

    /// The hash to keep of a new password.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when it is too short or too long; `OVERLOADED`.
    pub(crate) async fn hash(&self, password: &Secret) -> Result<Secret, Error> {
        check_length(password)?;
        let password = password.clone();
        self.in_turn(move || hash(password.expose().as_bytes())).await
    }

    /// Whether this is the password of that hash. Without a hash it takes as long, and says no.
    ///
    /// # Errors
    /// `OVERLOADED`; `INTERNAL` for a hash that cannot be read.
    pub(crate) async fn verify(&self, password: &Secret, kept: Option<&Secret>) -> Result<Verdict, Error> {
        let (password, hash) = (password.clone(), kept.unwrap_or(&self.nobody).clone());
        // No password is that long, and hashing a megabyte would be work for nothing.
        if password.expose().len() > 4 * PASSWORD_LENGTH.end() {
            return Ok(Verdict::Wrong);
        }
        self.in_turn(move || verify(&password, &hash)).await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _place = Place::take(&self.waiting)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(Error::internal)?;
        blocking(move || {
            // Held by the work, not by who waits for it: work goes on when its request is given up.
            let _turn = turn;
            work()
        })
        .await
    }
}

/// A place among those who wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Error> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::AcqRel) < WAITING {
            return Ok(place);
        }
        Err(Error::new(Code::Overloaded, "Too many people are signing in at this node. Try again shortly.")
            .after(Duration::from_secs(rand::random_range(1..5))))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The hash to keep of a new password, outside of a server: from a shell.
///
/// # Errors
/// `INVALID_REQUEST` when it is too short or too long.
pub async fn password_hash(password: &Secret) -> Result<Secret, Error> {
    check_length(password)?;
    let password = password.clone();
    blocking(move || hash(password.expose().as_bytes())).await
}

fn check_length(password: &Secret) -> Result<(), Error> {
    let length = password.expose().chars().count();
    if PASSWORD_LENGTH.contains(&length) {
        return Ok(());
    }
    let (least, most) = (PASSWORD_LENGTH.start(), PASSWORD_LENGTH.end());
    Err(Error::new(
        Code::InvalidRequest,
        format!("A password has {least} to {most} characters; this one has {length}."),
    )
    .with(json!({ "field": "password", "minimum": least, "maximum": most })))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}

fn hash(password: &[u8]) -> Result<Secret, Error> {
    let salt: [u8; 16] = rand::random();
    let salt = SaltString::encode_b64(&salt).map_err(Error::internal)?;
    let hash = Argon2::default().hash_password(password, &salt).map_err(Error::internal)?;
    Ok(Secret::new(hash.to_string()))
}

fn verify(password: &Secret, kept: &Secret) -> Result<Verdict, Error> {
    // Exposed to be compared: it is a hash.
    let parsed = PasswordHash::new(kept.expose()).map_err(Error::internal)?;
    if Argon2::default().verify_password(password.expose().as_bytes(), &parsed).is_err() {
        return Ok(Verdict::Wrong);
    }
    let params = Params::try_from(&parsed).map_err(Error::internal)?;
    let cheaper = params.m_cost() < Params::DEFAULT_M_COST
        || params.t_cost() < Params::DEFAULT_T_COST
        || parsed.algorithm != argon2::ARGON2ID_IDENT;
    if cheaper { hash(password.expose().as_bytes()).map(Verdict::Outdated) } else { Ok(Verdict::Right) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::{Algorithm, Version};

    #[tokio::test]
    async fn only_the_password_is_right() {
        let passwords = Passwords::new().await.expect("starts");
        let right = Secret::new("correct horse battery");
        let kept = passwords.hash(&right).await.expect("hashes");
        assert!(kept.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", kept.expose());
        assert_ne!(kept, passwords.hash(&right).await.expect("hashes"), "a salt of its own each time");
        let verdict = |text: &str| {
            let (password, passwords, kept) = (Secret::new(text), &passwords, &kept);
            async move { passwords.verify(&password, Some(kept)).await.expect("answers") }
        };
        assert_eq!(verdict("correct horse battery").await, Verdict::Right);
        assert_eq!(verdict("correct horse batterz").await, Verdict::Wrong);
        assert_eq!(verdict("").await, Verdict::Wrong);
        assert_eq!(passwords.verify(&right, None).await.expect("answers"), Verdict::Wrong, "nobody");
    }

    #[tokio::test]
    async fn lengths_are_held() {
        let passwords = Passwords::new().await.expect("starts");
        for (text, good) in [("x".repeat(11), false), ("ü".repeat(12), true), ("x".repeat(257), false)] {
            let hashed = passwords.hash(&Secret::new(text)).await;
            assert_eq!(hashed.map_err(|error| error.code).err(), (!good).then_some(Code::InvalidRequest));
        }
    }

    #[tokio::test]
    async fn a_cheap_hash_is_replaced() {
        let cheap =
            Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).expect("parameters"));
        let salt = SaltString::encode_b64(&[7; 16]).expect("salt");
        let old = cheap.hash_password(b"correct horse battery", &salt).expect("hashes").to_string();
        let passwords = Passwords::new().await.expect("starts");
        let right = Secret::new("correct horse battery");
        let verdict = passwords.verify(&right, Some(&Secret::new(&*old))).await.expect("answers");
        let Verdict::Outdated(new) = verdict else { panic!("{verdict:?}") };
        assert_eq!(passwords.verify(&right, Some(&new)).await.expect("answers"), Verdict::Right);
        let wrong = passwords.verify(&Secret::new("x"), Some(&Secret::new(old))).await.expect("answers");
        assert_eq!(wrong, Verdict::Wrong);
    }
}
