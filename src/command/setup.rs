//! `weir migrate`, `weir bootstrap` and `weir keys`: setting an installation up from a shell.

use super::{block_on, users};
use crate::{config, wiring};
use anyhow::Context;
use rand::RngExt;
use serde::Serialize;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use weir_core::key::{self, KeyHash, KeyHasher, PresentedKey};
use weir_core::{
    Clock, KeyId, PlanName, ProjectId, Role, RootSecret, Scopes, Secret, SigningKeyId, SystemClock, TenantId,
};
use weir_engine::admin::MAX_GRACE;
use weir_store::seal::Sealer;
use weir_store::{Bootstrap, By, Email, Enforced, NewKey, NewSigningKey, SigningMaterial, Store};

/// What a newcomer is called.
#[derive(clap::Args)]
pub struct BootstrapArgs {
    /// The tenant's name.
    #[arg(long)]
    pub tenant: String,
    /// The project's name.
    #[arg(long)]
    pub project: String,
    /// The plan of the tenant, if it is new: free, pro or enterprise.
    #[arg(long, default_value_t = PlanName::Enterprise)]
    pub plan: PlanName,
    /// Invite this e-mail address as an owner; the invitation is printed once.
    #[arg(long)]
    pub owner: Option<Email>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// API keys.
#[derive(clap::Subcommand)]
pub enum KeysCommand {
    /// Make a key; it is shown once.
    Create {
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// The project's id.
        #[arg(long)]
        project: ProjectId,
        /// What to call it.
        #[arg(long, default_value = "made on the command line")]
        name: String,
        /// What it may do, with spaces between: `events:publish events:subscribe`.
        #[arg(long)]
        scopes: Scopes,
        /// Requests per second; 0 is unlimited.
        #[arg(long, default_value_t = 0)]
        rate_limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Put a new key in the place of an old one, which goes on working for a while; the new one is shown once.
    Rotate {
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// The key's id.
        #[arg(long)]
        key: KeyId,
        /// Seconds for which the old one goes on working: at most 7 days.
        #[arg(long, default_value_t = 24 * 3600, value_parser = clap::value_parser!(u64).range(..=MAX_GRACE.as_secs()))]
        grace_seconds: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key: every node closes what uses it within a moment.
    Revoke {
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// The key's id.
        #[arg(long)]
        key: KeyId,
    },
}

/// A key to make.
struct KeyWish<'a> {
    name: &'a str,
    scopes: Scopes,
    rate: u32,
}

/// What bootstrapping led to. The secrets are shown here and nowhere else.
#[derive(Serialize)]
pub struct Newcomer {
    pub tenant_id: TenantId,
    pub tenant: String,
    pub project_id: ProjectId,
    pub project: String,
    pub plan: PlanName,
    pub key_id: KeyId,
    pub api_key: String,
    pub signing_key_id: SigningKeyId,
    pub signing_secret: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_invitation: Option<String>,
}

/// Brings the tables up to date.
pub fn migrate(path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = config::load(path)?.config;
    block_on(async {
        let store = super::open_store(&config).await?;
        store.migrate().await?;
        println!("the database is at version {}", store.schema_version().await?);
        Ok(ExitCode::SUCCESS)
    })
}

/// Sets a tenant and a project up and prints their credentials.
pub fn bootstrap(path: Option<&Path>, args: &BootstrapArgs) -> anyhow::Result<ExitCode> {
    let config = config::load(path)?.config;
    block_on(async {
        let store = super::open_store(&config).await?;
        let root = wiring::root_secret(&config, &store).await?;
        let mut newcomer = make(&store, &root, &args.tenant, &args.project, args.plan).await?;
        if let Some(owner) = &args.owner {
            let seat = Some((newcomer.tenant_id, Role::Owner));
            let invitation = users::invite(&store, &config, owner.clone(), seat, false, None).await?;
            newcomer.owner_invitation = Some(invitation.expose().to_owned());
        }
        if args.json {
            println!("{}", serde_json::to_string(&newcomer)?);
        } else {
            println!("tenant      {}  {}", newcomer.tenant_id, newcomer.tenant);
            println!("project     {}  {}", newcomer.project_id, newcomer.project);
            println!("plan        {}", newcomer.plan);
            println!("API key     {}", newcomer.api_key);
            println!("signing key {} (the `kid` of client tokens)", newcomer.signing_key_id);
            println!("  secret    {}", newcomer.signing_secret);
            if let Some(invitation) = &newcomer.owner_invitation {
                println!("invitation  {invitation}");
                println!("            (the owner sends it with a password to POST /v1/auth/accept)");
            }
            println!("The API key is shown this once; bootstrap again for another one.");
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Finds or makes tenant and project, and makes a key.
pub async fn make(
    store: &Store,
    root: &RootSecret,
    tenant: &str,
    project: &str,
    plan: PlanName,
) -> anyhow::Result<Newcomer> {
    let sealer = Sealer::new(root)?;
    let (api_key, key) = new_key(root, &KeyWish { name: "bootstrap", scopes: Scopes::all(), rate: 0 })?;
    let signing_key_id = SigningKeyId::new();
    let secret = signing_secret();
    let wanted = Bootstrap {
        tenant_name: tenant.to_owned(),
        project_name: project.to_owned(),
        plan,
        key,
        signing_key: NewSigningKey {
            id: signing_key_id,
            name: "bootstrap".to_owned(),
            material: SigningMaterial::Secret(sealer.seal(signing_key_id, secret.expose().as_bytes())?),
            templates: None,
        },
    };
    let made = store.directory.bootstrap(wanted, by()).await?;
    let SigningMaterial::Secret(sealed) = &made.signing_key.material else {
        anyhow::bail!("the signing key {} of a newcomer is no secret", made.signing_key.id);
    };
    let opened = sealer.open(made.signing_key.id, sealed)?;
    Ok(Newcomer {
        tenant_id: made.access.tenant.id,
        tenant: made.access.tenant.name,
        project_id: made.access.project.id,
        project: made.access.project.name,
        plan: made.access.tenant.plan,
        key_id: made.key.id,
        api_key: api_key.expose().to_owned(),
        signing_key_id: made.signing_key.id,
        signing_secret: String::from_utf8(opened).context("the signing secret is not text")?,
        owner_invitation: None,
    })
}

/// Makes, rotates or revokes a key.
pub fn keys(path: Option<&Path>, command: KeysCommand) -> anyhow::Result<ExitCode> {
    let config = config::load(path)?.config;
    block_on(async {
        let store = super::open_store(&config).await?;
        match command {
            KeysCommand::Create { tenant, project, name, scopes, rate_limit, json } => {
                let root = wiring::root_secret(&config, &store).await?;
                let wish = KeyWish { name: &name, scopes, rate: rate_limit };
                let (text, key) = new_key(&root, &wish)?;
                let made = store.keys.create(tenant, project, key, by()).await?;
                if json {
                    println!(
                        "{}",
                        json!({ "key_id": made.id, "api_key": text.expose(), "scopes": made.scopes })
                    );
                } else {
                    println!("{}", text.expose());
                }
            }
            KeysCommand::Rotate { tenant, key, grace_seconds, json } => {
                let root = wiring::root_secret(&config, &store).await?;
                let (id, text, hash) = new_secret(&root)?;
                let grace = Duration::from_secs(grace_seconds);
                let made = store.keys.rotate(tenant, key, (id, hash), grace, by()).await?;
                store.enforced(&made.change, config.limits.enforce_wait.std()).await?;
                if json {
                    println!("{}", json!({ "key_id": made.value.id, "api_key": text.expose() }));
                } else {
                    println!("{}", text.expose());
                }
            }
            KeysCommand::Revoke { tenant, key } => {
                let change = store.keys.revoke(tenant, key, by()).await?.change;
                let enforced = store.enforced(&change, config.limits.enforce_wait.std()).await?;
                let Enforced { nodes, of, connections_closed } = enforced;
                println!(
                    "{key} is revoked; {nodes} of {of} running nodes have enforced it and closed {connections_closed} connections"
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn new_key(root: &RootSecret, wish: &KeyWish<'_>) -> anyhow::Result<(Secret, NewKey)> {
    let (id, text, key_hash) = new_secret(root)?;
    let key = NewKey {
        id,
        name: wish.name.to_owned(),
        key_hash,
        scopes: wish.scopes,
        rate_limit_per_sec: wish.rate,
        expires_at: None,
    };
    Ok((text, key))
}

/// A new key's id, its text, and what is kept of it.
fn new_secret(root: &RootSecret) -> anyhow::Result<(KeyId, Secret, KeyHash)> {
    let id = KeyId::new();
    let text = key::generate(id);
    let presented = PresentedKey::parse(text.expose()).context("a generated key is not of its own form")?;
    let hash = KeyHasher::new(root).hash(&presented);
    Ok((id, text, hash))
}

/// 43 random letters and digits: 256 bits, and usable as a JWT secret by every library as it is.
fn signing_secret() -> Secret {
    let mut rng = rand::rng();
    Secret::new((0..43).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect::<String>())
}

pub fn by() -> By {
    By::new("cli", SystemClock.now())
}
