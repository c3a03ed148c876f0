//! What a node calls: the payment provider, whoever is told of alerts.

use super::finding::Finding;
use crate::config::Config;
use weir_outbound::stripe::{API_BASE, Stripe};
use weir_outbound::{Outbound, Policy, Request};

/// Meter events that Stripe takes in a second with a test key.
const TEST_RATE: u32 = 25;

pub async fn check(config: &Config, reach: bool) -> Vec<Finding> {
    let mut findings = stripe(config);
    if reach {
        findings.extend(call_stripe(config).await);
    }
    findings.extend(alerts(config, reach).await);
    findings
}

/// What can be said of the keys without asking.
fn stripe(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "Stripe";
    let stripe = &config.stripe;
    let Some(key) = &stripe.secret_key else {
        return vec![Finding::good(CHECK, "not used: invoices are computed here only")];
    };
    let mode = key.expose().split('_').nth(1).unwrap_or_default();
    let mut findings = vec![match mode {
        "live" => Finding::good(CHECK, "a live key"),
        "test" => Finding::good(CHECK, "a test key: nobody pays"),
        _ => Finding::warning(
            CHECK,
            "a key that is neither live nor test",
            "take the key from Stripe's page again",
        ),
    }];
    if key.expose().starts_with("sk_live_") {
        findings.push(Finding::warning(
            CHECK,
            "the account's secret key, which may do anything",
            "use a restricted key (rk_live_…) with the rights that docs/operations.md lists",
        ));
    }
    if mode == "test" && stripe.events_per_second > TEST_RATE {
        findings.push(Finding::warning(
            CHECK,
            format!(
                "stripe.events_per_second = {}, and test mode takes {TEST_RATE}",
                stripe.events_per_second
            ),
            "set it to 20 while you use a test key",
        ));
    }
    if mode == "live" && stripe.api_base != API_BASE {
        findings.push(Finding::bad(
            CHECK,
            format!("a live key goes to {}", stripe.api_base),
            "remove stripe.api_base, or use a test key",
        ));
    }
    if stripe.secrets().iter().any(|secret| !secret.expose().starts_with("whsec_")) {
        findings.push(Finding::bad(
            CHECK,
            "a webhook secret does not begin with whsec_: every webhook will be refused",
            "copy the signing secrets of the webhook endpoints from Stripe's page",
        ));
    }
    if mode == "live" && config.public_url.as_ref().is_none_or(|url| !url.starts_with("https://")) {
        findings.push(Finding::bad(
            CHECK,
            "public_url is not set, or not https: people do not come back from Stripe's pages",
            "set public_url to the https address of this installation",
        ));
    }
    findings
}

/// What Stripe itself says.
async fn call_stripe(config: &Config) -> Option<Finding> {
    const CHECK: &str = "Stripe";
    let (key, price) = config.stripe.secret_key.clone().zip(config.stripe.price.clone())?;
    let advice =
        "see that the key is right, may read prices and meters, and that this machine reaches Stripe";
    let client = match Stripe::new(&config.stripe.api_base, key) {
        Ok(client) => client,
        Err(error) => return Some(Finding::bad(CHECK, error.to_string(), advice)),
    };
    Some(match client.price(&price).await {
        Err(error) => Finding::bad(CHECK, error.to_string(), advice),
        Ok(found) => match found.recurring.and_then(|recurring| recurring.meter) {
            Some(_) => Finding::good(CHECK, format!("answers; {price} is metered")),
            None => Finding::bad(
                CHECK,
                format!("answers, and {price} is not metered"),
                "make a recurring price with a billing meter, as docs/operations.md says",
            ),
        },
    })
}

async fn alerts(config: &Config, reach: bool) -> Vec<Finding> {
    const CHECK: &str = "alerts";
    let alerts = &config.alerts;
    let managers = &alerts.alertmanager_urls;
    if managers.is_empty() && alerts.webhook_url.is_none() {
        return vec![Finding::warning(
            CHECK,
            "nobody is told: alerts are only listed",
            "set alerts.alertmanager_urls or alerts.webhook_url, or alert by the Prometheus rules",
        )];
    }
    let mut findings = Vec::new();
    if alerts.webhook_url.is_some() && alerts.webhook_secret.is_none() {
        findings.push(Finding::warning(
            CHECK,
            "the webhook's messages are not signed",
            "set alerts.webhook_secret, and have the endpoint check it",
        ));
    }
    for url in managers {
        if !reach {
            findings.push(Finding::good(CHECK, format!("told to {url}; --reach asks whether it is there")));
            continue;
        }
        let ready = Request::get(format!("{}/-/ready", url.trim_end_matches('/')));
        let answer = match Outbound::new(Policy::Trusted) {
            Ok(outbound) => outbound.send(ready).await,
            Err(error) => Err(error),
        };
        findings.push(match answer {
            Ok(answer) if answer.status.is_success() => Finding::good(CHECK, format!("{url} is ready")),
            Ok(answer) => Finding::bad(
                CHECK,
                format!("{url} answers with status {}", answer.status.as_u16()),
                "see that it is an Alertmanager, and ready",
            ),
            Err(error) => Finding::bad(
                CHECK,
                format!("{url}: {error}"),
                "see that alerts.alertmanager_urls is right and it runs",
            ),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::good(CHECK, "told to the webhook, signed"));
    }
    findings
}
