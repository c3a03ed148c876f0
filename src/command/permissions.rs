//! `weir permissions`: who may do what, as `docs/permissions.md` shows it.

use std::fmt::Write;
use weir_core::{Permission, Role};

/// The table as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# Who may do what\n\n\
         One table decides for every protocol. People hold the permissions of their role in a tenant; `operator` is\n\
         the platform's own staff and reaches every tenant. An API key holds the permissions of its scopes: `events:*`\n\
         in its own project, `admin:*` and `billing:read` in its whole tenant, and it can only make keys with scopes\n\
         that it holds itself. Somebody else's thing answers exactly like one that does not exist.\n\n\
         While a tenant is suspended its people and keys keep the permissions that end in `:read`, `events:*`\n\
         excepted, and `billing:write`: they can look, and pay.\n\n| permission |",
    );
    // Writing into a String cannot fail.
    for role in Role::ALL {
        let _ = write!(out, " {role} |");
    }
    out.push_str(" key's scope | allows |\n|---|");
    out.push_str(&"---|".repeat(Role::ALL.len() + 2));
    out.push('\n');
    for permission in Permission::ALL {
        let _ = write!(out, "| `{permission}` |");
        for role in Role::ALL {
            out.push_str(if permission.roles().contains(&role) { " yes |" } else { " |" });
        }
        let scope = permission.scope().map_or_else(|| "none".to_owned(), |scope| format!("`{scope}`"));
        let _ = writeln!(out, " {scope} | {} |", permission.meaning().trim());
    }
    out.push_str("\n<!-- Made by `weir permissions`; `make generate` writes it. -->\n");
    out
}
