//! `weir audit`: checking and exporting the trail.

use super::block_on;
use crate::config;
use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use weir_core::TenantId;
use weir_store::audit::{Entry, Filter, Flaw, Hash, Links, Verification, hex};
use weir_store::{After, MAX_PAGE, Store};

/// The audit trail.
#[derive(clap::Subcommand)]
pub enum AuditCommand {
    /// Check that nothing was changed, removed or added; exits with 1 when something was.
    Verify {
        /// The tenant's id; every chain, the installation's own too, when absent.
        #[arg(long, conflicts_with = "file")]
        tenant: Option<TenantId>,
        /// A head that was noted earlier: it must still be in the chain.
        #[arg(long, value_parser = head)]
        head: Option<Hash>,
        /// Check an export instead of the database.
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Print a chain as JSON, one entry a line.
    Export {
        /// The tenant's id; the installation's own chain when absent.
        #[arg(long)]
        tenant: Option<TenantId>,
    },
}

fn head(text: &str) -> Result<Hash, String> {
    hex::parse(text)
        .ok_or_else(|| format!("`{text}` is no head: 64 hex digits, as `weir audit verify` prints"))
}

/// Runs the command.
pub fn run(path: Option<&Path>, command: AuditCommand) -> anyhow::Result<ExitCode> {
    if let AuditCommand::Verify { file: Some(file), head, .. } = &command {
        return verify_file(file, *head);
    }
    let config = config::load(path)?.config;
    block_on(async {
        let store = super::open_store(&config).await?;
        match command {
            AuditCommand::Verify { tenant, head, .. } => verify(&store, tenant, head).await,
            AuditCommand::Export { tenant } => export(&store, tenant).await,
        }
    })
}

fn name(tenant: Option<TenantId>) -> String {
    tenant.map_or_else(|| "installation".to_owned(), |tenant| tenant.to_string())
}

async fn verify(store: &Store, tenant: Option<TenantId>, head: Option<Hash>) -> anyhow::Result<ExitCode> {
    if tenant.is_none() && head.is_some() {
        bail!("--head is of one chain: name its --tenant");
    }
    let chains = match tenant {
        Some(tenant) => vec![Some(tenant)],
        None => store.audit.chains().await?,
    };
    let mut intact = true;
    for chain in chains {
        let mut found = store.audit.verify(chain).await?;
        if let (Some(head), Verification::Intact { entries, .. }) = (head, &found)
            && !contains(store, chain, head).await?
        {
            found = lost(*entries);
        }
        intact &= report(&name(chain), &found);
    }
    Ok(if intact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const fn lost(entries: i64) -> Verification {
    Verification::Broken(Flaw { sequence: entries + 1, reason: "the entry with the given head is missing" })
}

fn report(name: &str, found: &Verification) -> bool {
    match found {
        Verification::Intact { entries, head } => {
            println!("ok   {name}  {entries} entries  head {}", hex::text(head));
            true
        }
        Verification::Broken(Flaw { sequence, reason }) => {
            println!("BAD  {name}  entry {sequence}: {reason}");
            false
        }
    }
}

async fn contains(store: &Store, chain: Option<TenantId>, head: Hash) -> anyhow::Result<bool> {
    let mut after = 0;
    loop {
        let page = After { after: Some(after), limit: MAX_PAGE };
        let page = store.audit.list(chain, Filter::default(), page).await?;
        if page.items.iter().any(|entry| entry.hash == head) {
            return Ok(true);
        }
        match page.items.last() {
            Some(last) if page.has_more => after = last.sequence,
            _ => return Ok(false),
        }
    }
}

async fn export(store: &Store, chain: Option<TenantId>) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut after = 0;
    loop {
        let page = After { after: Some(after), limit: MAX_PAGE };
        let page = store.audit.list(chain, Filter::default(), page).await?;
        for entry in &page.items {
            serde_json::to_writer(&mut out, entry)?;
            out.write_all(b"\n")?;
        }
        match page.items.last() {
            Some(last) if page.has_more => after = last.sequence,
            _ => break,
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn verify_file(path: &Path, head: Option<Hash>) -> anyhow::Result<ExitCode> {
    let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let (mut links, mut chain, mut seen) = (Links::default(), None, head.is_none());
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let entry: Entry = serde_json::from_str(&line?)
            .with_context(|| format!("line {number} of {} is no entry", path.display()))?;
        if *chain.get_or_insert(entry.tenant_id) != entry.tenant_id {
            bail!("line {number} of {} is of another chain", path.display());
        }
        if let Err(flaw) = links.add(&entry) {
            report(&name(entry.tenant_id), &Verification::Broken(flaw));
            return Ok(ExitCode::FAILURE);
        }
        seen |= head == Some(entry.hash);
    }
    let found = match seen {
        true => Verification::Intact { entries: links.sequence, head: links.head },
        false => lost(links.sequence),
    };
    let intact = report(&name(chain.flatten()), &found);
    Ok(if intact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
