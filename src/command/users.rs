//! `weir users`: people, from a shell of the installation. Who can run this can read the database anyway.

use super::{block_on, setup::by};
use crate::config::{self, Config};
use anyhow::Context;
use serde_json::json;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use weir_core::{Clock, InvitationId, Role, Secret, SystemClock, TenantId, UserId};
use weir_engine::people::{invitation_token, password_hash};
use weir_store::members::{Invitation, NewInvitation};
use weir_store::people::NewUser;
use weir_store::{After, Email, MAX_PAGE, Store, User};

/// People who sign in.
#[derive(clap::Subcommand)]
pub enum UsersCommand {
    /// Invite somebody, or with a password make the user at once.
    Create(CreateArgs),
    /// Let somebody who forgot the password set another one: prints a token for POST /v1/auth/accept.
    ResetPassword {
        /// The e-mail address.
        #[arg(long)]
        email: Email,
    },
    /// Give a member another role. It holds at once.
    SetRole {
        /// The e-mail address.
        #[arg(long)]
        email: Email,
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// owner, admin, developer, billing or viewer.
        #[arg(long)]
        role: Role,
    },
    /// Make somebody platform staff, or with --no an ordinary user.
    SetOperator {
        /// The e-mail address.
        #[arg(long)]
        email: Email,
        /// Unmake.
        #[arg(long)]
        no: bool,
    },
    /// Take a membership away. It holds at once.
    Remove {
        /// The e-mail address.
        #[arg(long)]
        email: Email,
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
    },
    /// Let a user in nowhere, or with --no let in again. Everything that was issued ends at once.
    Disable {
        /// The e-mail address.
        #[arg(long)]
        email: Email,
        /// Let in again.
        #[arg(long)]
        no: bool,
    },
    /// List users, or the members of a tenant, one JSON object a line.
    List {
        /// Only the members of this tenant.
        #[arg(long)]
        tenant: Option<TenantId>,
    },
}

/// Whom to make.
#[derive(clap::Args)]
pub struct CreateArgs {
    /// The e-mail address.
    #[arg(long)]
    email: Email,
    /// What the person is called.
    #[arg(long)]
    name: Option<String>,
    /// Platform staff: crosses tenants.
    #[arg(long)]
    operator: bool,
    /// Member of this tenant.
    #[arg(long, requires = "role")]
    tenant: Option<TenantId>,
    /// In this role: owner, admin, developer, billing or viewer.
    #[arg(long, requires = "tenant")]
    role: Option<Role>,
    /// Read a password from standard input instead of printing an invitation.
    #[arg(long)]
    password_stdin: bool,
}

/// Carries a command out.
pub fn run(path: Option<&Path>, command: UsersCommand) -> anyhow::Result<ExitCode> {
    let config = config::load(path)?.config;
    block_on(async {
        let store = super::open_store(&config).await?;
        match command {
            UsersCommand::Create(args) => create(&store, &config, args).await?,
            UsersCommand::ResetPassword { email } => {
                let user = known(&store, &email).await?;
                let token = invite(&store, &config, user.email, None, user.operator, None).await?;
                println!("{}", token.expose());
            }
            UsersCommand::SetRole { email, tenant, role } => {
                let user = known(&store, &email).await?;
                let from = store.members.member(tenant, user.id).await?.role;
                store.members.set_role(tenant, user.id, (from, role), by()).await?;
                println!("{email} is {role} of {tenant}");
            }
            UsersCommand::SetOperator { email, no } => {
                store.people.set_operator(known(&store, &email).await?.id, !no, by()).await?;
                println!("{email} is {} operator", if no { "no" } else { "an" });
            }
            UsersCommand::Remove { email, tenant } => {
                let user = known(&store, &email).await?;
                let from = store.members.member(tenant, user.id).await?.role;
                store.members.remove(tenant, user.id, from, by()).await?;
                println!("{email} is no member of {tenant}");
            }
            UsersCommand::Disable { email, no } => {
                store.people.set_disabled(known(&store, &email).await?.id, !no, by()).await?;
                println!("{email} is {}", if no { "let in again" } else { "disabled" });
            }
            UsersCommand::List { tenant } => list(&store, tenant).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn known(store: &Store, email: &Email) -> anyhow::Result<User> {
    store.people.by_email(email.clone()).await?.with_context(|| format!("nobody has the address {email}"))
}

async fn create(store: &Store, config: &Config, args: CreateArgs) -> anyhow::Result<()> {
    let seat = args.tenant.zip(args.role);
    if !args.password_stdin {
        if seat.is_none() && store.people.by_email(args.email.clone()).await?.is_some() {
            anyhow::bail!("{} is a user already: see `weir users reset-password`", args.email);
        }
        let token = invite(store, config, args.email, seat, args.operator, args.name).await?;
        println!("{}", token.expose());
        return Ok(());
    }
    let mut password = String::new();
    std::io::stdin().read_to_string(&mut password).context("the password cannot be read")?;
    let password = Secret::new(password.trim_end_matches(['\r', '\n']));
    let user = make(store, args.email, args.name, args.operator, &password).await?;
    if let Some((tenant, role)) = seat {
        store.members.join(tenant, user.id, role, by()).await?;
    }
    println!("{}", user.id);
    Ok(())
}

/// Makes a user with a password.
pub async fn make(
    store: &Store,
    email: Email,
    name: Option<String>,
    operator: bool,
    password: &Secret,
) -> anyhow::Result<User> {
    let new = NewUser {
        id: UserId::new(),
        email,
        name: name.unwrap_or_default(),
        password_hash: Some(password_hash(password).await?),
        identity: None,
        operator,
    };
    Ok(store.people.create(new, by()).await?)
}

/// Keeps a seat; returns the token that takes it.
pub async fn invite(
    store: &Store,
    config: &Config,
    email: Email,
    seat: Option<(TenantId, Role)>,
    operator: bool,
    name: Option<String>,
) -> anyhow::Result<Secret> {
    let (token, hash) = invitation_token()?;
    let now = SystemClock.now();
    let invitation = Invitation {
        id: InvitationId::new(),
        email,
        name: name.unwrap_or_default(),
        seat,
        operator,
        created_at: now,
        expires_at: now.plus(config.auth.invitation_lifetime.std()),
    };
    store.members.invite(NewInvitation { hash, invitation }, by()).await?;
    Ok(token)
}

async fn list(store: &Store, tenant: Option<TenantId>) -> anyhow::Result<()> {
    let print = |user: &User, role: Option<Role>| {
        let line = json!({
            "user_id": user.id, "email": user.email.as_str(), "name": user.name, "role": role,
            "operator": user.operator, "disabled_at": user.disabled_at, "created_at": user.created_at,
        });
        println!("{line}");
    };
    let mut page = After::first(MAX_PAGE);
    loop {
        let (users, has_more): (Vec<_>, bool) = match tenant {
            Some(tenant) => {
                let members = store.members.members(tenant, page).await?;
                let roles = members.items.into_iter().map(|member| (member.user, Some(member.role)));
                (roles.collect(), members.has_more)
            }
            None => {
                let users = store.people.users(page).await?;
                (users.items.into_iter().map(|user| (user, None)).collect(), users.has_more)
            }
        };
        for (user, role) in &users {
            print(user, *role);
        }
        page.after = users.last().map(|(user, _)| user.id);
        if !has_more {
            return Ok(());
        }
    }
}
