//! What can be wrong, and what to do about it.

use std::fmt;

macro_rules! conditions {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $fix:literal;)+) => {
        /// Something that can be wrong. `docs/runbooks.md` has a section for each, under its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Condition {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Condition {
            /// Every condition, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The public name, such as `error-rate`; the anchor of its runbook.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What to do first.
            #[must_use]
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix,)+ }
            }
        }
    };
}

conditions! {
    /// Too many requests fail on our side (status 500 and above).
    ErrorRate = "error-rate",
        "Look at /readyz of the nodes and at the errors in their logs; the request ids there are those that clients got.";
    /// Credentials are refused too often: a client with an old key, or somebody who guesses.
    AuthFailures = "auth-failures",
        "Find the client that sends the refused credentials and give it new ones; if nobody knows it, revoke the key that it uses.";
    /// The metadata database does not answer.
    DatabaseUnavailable = "database-unavailable",
        "Bring the database back, or the way to it; nodes go on by themselves when it answers.";
    /// The event log does not take events.
    LogUnavailable = "log-unavailable",
        "Bring NATS or the disk of the log back; what was acknowledged is safe, what is published now is refused.";
    /// Events wait for their subscribers on a node.
    LogLag = "log-lag",
        "The node cannot deliver as fast as events come: add nodes, or spread subscribers and projects.";
    /// A node cannot confirm who may do what, and has stopped serving.
    AccessStale = "access-stale",
        "See whether the node reaches the database and is not paused; it goes on by itself when it can look.";
    /// A disk is nearly full.
    StorageLow = "storage-low",
        "Make room or enlarge the disk before log.min_free_bytes is reached, when publishing is refused.";
    /// A node's clock and the database's differ.
    ClockSkew = "clock-skew",
        "See to time synchronisation (chrony, systemd-timesyncd) on the node and on the database's machine.";
    /// Nodes run different programs for long.
    VersionSkew = "version-skew",
        "Finish the upgrade, or take back the nodes that were upgraded.";
    /// Connections are closed because their clients do not read.
    SlowConsumers = "slow-consumers",
        "Look for clients that do too much in their event handler or have a slow network; they resume by themselves.";
    /// A service that Weir calls does not work, so it is not called for a while.
    BreakerOpen = "breaker-open",
        "See whether the service answers and takes our credentials; calls begin again by themselves.";
    /// The count of published events is behind.
    UsageLag = "usage-lag",
        "See whether the event log and the database are slow; nothing is lost, hours close late.";
    /// Counting again found another number than what is billed.
    UsageDrift = "usage-drift",
        "Compare /v1/billing/usage/explain of the hour with the log before the hour is billed, and report the defect.";
    /// Published events were gone from the log before they were counted.
    UsageLost = "usage-lost",
        "They are not billed. Keep events for longer than an outage may last (retention, nats.stream_max_age).";
    /// A tenant used a good part of its events for this period.
    QuotaThreshold = "quota-threshold",
        "Raise the plan or the spend cap, or publish less: at 100 % events are refused until the period ends.";
    /// A tenant keeps nearly as many bytes of events as it may.
    RetentionFull = "retention-full",
        "Raise limits.retention_bytes, publish less, or live with it: the oldest events go before their age.";
    /// An endpoint of a tenant has taken nothing for long, or is disabled for it.
    WebhookFailing = "webhook-failing",
        "Look at its attempts (/v1/admin/webhooks/{id}/attempts), mend the endpoint, then enable it; what became dead letters is redriven.";
    /// A tenant has many dead letters.
    DeadLetters = "dead-letters",
        "Look at /v1/admin/dead-letters for the reasons, mend them, then redrive or drop the letters: beyond 10,000 the oldest go.";
    /// A tenant's payment failed.
    PaymentFailed = "payment-failed",
        "Pay the open invoice, or change the payment method in the customer portal.";
    /// More tenants would have been suspended for their payments than the brake allows.
    SuspensionBrake = "suspension-brake",
        "Find out why so many payments fail before raising stripe.suspension_brake or suspending by hand.";
    /// Usage does not get to Stripe.
    StripeReportingStuck = "stripe-reporting-stuck",
        "The log names the reason. Nothing is lost, but Stripe takes usage for 35 days only.";
    /// Stripe refuses usage, or does not bill what it took.
    StripeReportsRefused = "stripe-reports-refused",
        "The log names the reports; bill or credit what /v1/billing/invoices lists under adjustments by hand.";
}

impl Condition {
    /// The condition of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|condition| condition.as_str() == name)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNBOOKS: &str = include_str!("../../../../docs/runbooks.md");

    #[test]
    fn each_has_a_name_of_its_own_and_a_runbook() {
        for condition in Condition::ALL {
            assert_eq!(Condition::parse(condition.as_str()), Some(*condition));
            let heading = format!("#### {condition}");
            assert!(RUNBOOKS.lines().any(|line| line == heading), "docs/runbooks.md has no `{heading}`");
        }
    }
}
