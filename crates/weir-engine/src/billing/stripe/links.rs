//! Stripe's own pages: where a tenant subscribes, and where it looks after its payments.

use super::{StripeBilling, unavailable};
use crate::Error;
use serde_json::json;
use sha2::{Digest, Sha256};
use weir_core::{Code, TenantId};
use weir_outbound::stripe::{self, Invoice, InvoicesOf};
use weir_store::{By, Tenant};

/// An invoice at Stripe.
pub type Hosted = Invoice;

impl StripeBilling {
    /// Makes a form in which the tenant subscribes, and says where it is. It is done when Stripe says that it is paid.
    ///
    /// # Errors
    /// `CONFLICT` for who has subscribed already; `BILLING_ERROR`, `PAYMENT_PROVIDER_UNAVAILABLE`.
    pub async fn checkout(&self, tenant: &Tenant, by: By) -> Result<String, Error> {
        let base = self.public_url()?;
        let customer = self.customer(tenant, by).await?;
        let subscriptions =
            self.settings.client.subscriptions(&customer).await.map_err(|error| unavailable(&error))?;
        if subscriptions.iter().any(|one| one.runs() && one.item(&self.settings.price).is_some()) {
            let text = "The tenant has a subscription already; `POST /v1/billing/portal` leads to it.";
            return Err(Error::new(Code::Conflict, text));
        }
        let wish = stripe::Checkout {
            customer: &customer,
            tenant: &tenant.id.to_string(),
            price: &self.settings.price,
            success_url: &format!("{base}/?checkout=done"),
            cancel_url: &format!("{base}/?checkout=cancelled"),
        };
        let session = self.settings.client.create_checkout(&wish, &once()).await;
        session.map(|session| session.url).map_err(|error| unavailable(&error))
    }

    /// Makes a page on which the tenant looks after its payments.
    ///
    /// # Errors
    /// `CONFLICT` for who never subscribed; `BILLING_ERROR`, `PAYMENT_PROVIDER_UNAVAILABLE`.
    pub async fn portal(&self, tenant: TenantId) -> Result<String, Error> {
        let base = self.public_url()?;
        let account = self.store.billing.account(tenant).await?;
        let customer = account.stripe_customer_id.ok_or_else(|| {
            Error::new(
                Code::Conflict,
                "The tenant has not subscribed yet; `POST /v1/billing/checkout` leads there.",
            )
        })?;
        let session = self.settings.client.create_portal(&customer, &format!("{base}/"), &once()).await;
        session.map(|session| session.url).map_err(|error| unavailable(&error))
    }

    /// The newest of the tenant's invoices at Stripe.
    ///
    /// # Errors
    /// `BILLING_ERROR`, `PAYMENT_PROVIDER_UNAVAILABLE`.
    pub async fn hosted(&self, customer: &str, limit: u32) -> Result<Vec<Hosted>, Error> {
        let all = InvoicesOf { customer, status: None, after: None, limit };
        let page = self.settings.client.invoices(&all).await;
        page.map(|page| page.data).map_err(|error| unavailable(&error))
    }

    /// The tenant's customer, made if need be: once, however many ask, and the same after a lost answer.
    async fn customer(&self, tenant: &Tenant, by: By) -> Result<String, Error> {
        let account = self.store.billing.account(tenant.id).await?;
        if let Some(customer) = account.stripe_customer_id {
            return Ok(customer);
        }
        // Whoever is renamed meanwhile makes another request, which needs another key.
        let name = Sha256::digest(tenant.name.as_bytes());
        let once = format!(
            "weir-customer-{}-{:02x}{:02x}{:02x}{:02x}",
            tenant.id, name[0], name[1], name[2], name[3]
        );
        let made = self.settings.client.create_customer(&tenant.name, &tenant.id.to_string(), &once).await;
        let made = made.map_err(|error| unavailable(&error))?;
        Ok(self.store.payments.link_customer(tenant.id, made.id, by).await?)
    }

    fn public_url(&self) -> Result<&str, Error> {
        let url = self.settings.public_url.as_deref();
        url.map(|url| url.trim_end_matches('/')).ok_or_else(|| {
            Error::new(
                Code::BillingError,
                "The operator has not set `public_url`, to which Stripe's pages lead back.",
            )
            .with(json!({ "setting": "public_url" }))
        })
    }
}

fn once() -> String {
    uuid::Uuid::now_v7().to_string()
}
