//! What both backends must do. Each case gets an empty database of its own; `place.open()` again is another node.

mod access;
mod alerts;
mod allowances;
mod audit;
mod billing;
mod idempotency;
mod inquiries;
mod keys;
mod ledger;
mod nodes;
mod opening;
mod outage;
mod outbox;
mod payments;
mod people;
mod place;
mod schemas;
mod shares;
mod storage;
mod system;
mod tenants;
mod tickets;
mod usage;
mod webhooks;

use crate::{
    Bootstrap, Bootstrapped, By, NewKey, NewSigningKey, NewTenant, Overrides, SigningMaterial, Store,
    TenantStatus,
};
use futures::future::join_all;
use place::Place;
use std::future::Future;
use weir_core::{KeyId, PlanName, Scopes, SigningKeyId, TenantId, Timestamp};

/// Every case, as a test of one backend.
macro_rules! conformance {
    ($backend:ident: $($module:ident :: $case:ident),* $(,)?) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    let place = super::Place::$backend().await;
                    super::$module::$case(&place).await;
                }
            )*
        }
    };
}

macro_rules! on {
    ($($backend:ident),*) => {$(
        conformance! { $backend:
            opening::many_nodes_start_at_once,
            opening::all_nodes_share_one_root_secret,
            opening::says_which_tables_are_there,
            opening::damage_and_missing_tables_are_told_apart,
            tenants::are_made_found_and_listed,
            tenants::names_are_checked_and_unique,
            tenants::limits_are_the_plans_with_overrides_on_top,
            tenants::projects_belong_to_one_tenant,
            tenants::a_deleted_project_is_found_by_nobody,
            tenants::a_deleted_tenant_is_found_by_nobody,
            keys::authenticating_reads_everything_at_once,
            keys::are_invisible_to_other_tenants,
            keys::rotation_gives_the_old_key_an_end,
            keys::one_of_two_rotations_wins,
            keys::revoking_keeps_the_first_time,
            keys::signing_keys_are_kept_sealed_and_revoked,
            keys::signing_keys_of_every_kind_come_back_as_they_were,
            keys::a_project_has_a_bounded_number_of_signing_keys,
            keys::lists_come_in_pages,
            access::bootstrap_finds_what_it_made,
            access::concurrent_bootstraps_agree,
            access::every_change_is_announced,
            access::a_reader_of_changes_misses_none,
            access::what_only_a_newer_program_announces_is_passed_on,
            access::mixed_changes_do_not_deadlock,
            schemas::versions_are_counted_and_kept,
            schemas::old_versions_are_forgotten_beyond_their_room,
            schemas::have_room_up_to_the_limit,
            schemas::of_others_are_out_of_reach,
            schemas::races_lose_nothing,
            inquiries::every_node_hears_a_question_and_the_asker_the_answers,
            inquiries::ending_a_connection_is_announced,
            nodes::nodes_count_as_long_as_their_lease,
            nodes::a_change_is_enforced_when_every_node_says_so,
            nodes::changes_are_noticed_when_they_are_committed,
            nodes::changes_are_forgotten_from_the_old_end_once_enforced,
            shares::shares_never_exceed_the_limit,
            shares::shares_end_with_their_nodes_lease,
            shares::projects_may_have_limits_of_their_own,
            tickets::are_redeemed_once,
            tickets::twenty_at_once_redeem_one,
            tickets::expired_ones_are_refused_and_purged,
            usage::batches_count_once,
            usage::is_summed_by_hour_project_and_tenant,
            usage::concurrent_nodes_add_up,
            billing::accounts_are_made_when_they_are_looked_at,
            billing::periods_follow_each_other_and_never_go_back,
            billing::a_subscription_sets_the_period,
            billing::who_bought_a_plan_keeps_its_terms,
            billing::terms_are_remembered,
            billing::a_cap_is_for_plans_with_a_price,
            usage::large_batches_are_added_whole,
            usage::shares_explain_a_number,
            usage::hours_close_when_everybody_has_told,
            ledger::events_are_counted_once_whoever_counts,
            ledger::a_step_that_fails_moves_nothing,
            ledger::positions_are_by_incarnation,
            ledger::ranges_grow_and_are_counted_again,
            storage::what_is_kept_is_counted_with_the_usage,
            storage::floors_rise_and_never_sink,
            storage::counts_and_changed_limits_ask_for_a_review,
            storage::one_node_enforces_at_a_time,
            storage::a_deleted_project_is_erased_once_its_usage_is_counted,
            outbox::reports_add_up_to_the_usage,
            outbox::reports_are_written_once_by_however_many,
            outbox::a_report_says_how_often_it_was_sent_and_what_became_of_it,
            outbox::hours_belong_to_the_subscription_that_covers_them,
            outbox::one_node_reports_at_a_time,
            outbox::absurd_usage_stops_nobody_elses_reports,
            payments::a_tenant_has_one_customer,
            payments::unpaid_bills_suspend_and_payment_mends_it,
            payments::other_suspensions_are_not_ended_by_payments,
            payments::the_brake_stops_a_wave_of_suspensions,
            payments::what_an_older_look_found_is_dropped,
            payments::webhooks_are_taken_once_and_kept_until_done,
            allowances::blocks_shrink_near_the_limit,
            allowances::accepted_never_exceeds_the_limit_whatever_happens,
            allowances::nodes_that_ask_at_once_share_the_limit,
            allowances::what_a_dead_node_had_comes_back_from_the_count,
            allowances::a_limit_in_the_middle_of_a_period_counts_what_came_before,
            allowances::a_new_period_begins_anew,
            allowances::thresholds_are_noted_once,
            system::changes_are_told_with_the_change,
            system::waits_for_the_log_within_bounds,
            system::one_node_tells_at_a_time,
            webhooks::webhooks_belong_to_a_tenant_and_are_bounded,
            webhooks::one_node_at_a_time_moves_a_cursor,
            webhooks::progress_is_written_whole,
            webhooks::endpoints_that_take_nothing_are_found,
            webhooks::dead_letters_are_bounded_and_the_dropped_are_counted,
            people::users_have_one_address_each,
            people::members_join_change_and_leave,
            people::a_tenant_keeps_an_owner,
            people::owners_who_remove_each_other_leave_one,
            people::members_are_invisible_to_other_tenants,
            people::changes_to_a_user_reach_all_its_tenants,
            people::changes_of_users_members_and_keys_do_not_deadlock,
            people::an_invitation_is_taken_once,
            people::invitations_replace_expire_and_are_withdrawn,
            people::refresh_tokens_rotate_and_reuse_ends_the_sign_in,
            people::identities_belong_to_one_user,
            audit::changes_leave_entries_in_a_chain,
            audit::a_failed_change_leaves_nothing,
            audit::chains_hold_under_concurrency,
            audit::tampering_is_found,
            alerts::one_row_is_open_whoever_sees_it,
            alerts::what_nobody_sees_any_more_is_over,
            alerts::lists_are_the_tenants_own_and_filtered,
            alerts::acknowledging_is_noted_once,
            alerts::each_is_told_raised_then_resolved,
            alerts::nodes_take_turns_and_say_what_they_run,
            alerts::tenants_in_arrears_and_near_their_limit_are_found,
            idempotency::copies_get_the_first_answer,
            idempotency::one_of_twenty_copies_is_carried_out,
            idempotency::a_key_stands_for_one_request_of_one_actor,
            idempotency::a_claim_that_changed_nothing_can_be_given_back_or_run_out,
            idempotency::a_change_is_made_once_whoever_dies,
            idempotency::keys_are_forgotten_after_a_day,
        }
    )*};
}

on!(sqlite, postgres);

/// Microseconds into 2026.
fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000 + micros)
}

fn by(micros: i64) -> By {
    By::new("test", at(micros))
}

fn new_tenant(name: &str) -> NewTenant {
    NewTenant {
        id: TenantId::new(),
        name: name.to_owned(),
        plan: PlanName::Pro,
        overrides: Overrides::default(),
        status: TenantStatus::Trial,
    }
}

fn new_key() -> NewKey {
    let id = KeyId::new();
    NewKey {
        id,
        name: "server".into(),
        key_hash: hash_for(id),
        scopes: Scopes::all(),
        rate_limit_per_sec: 7,
        expires_at: None,
    }
}

fn hash_for(id: KeyId) -> [u8; 32] {
    let mut hash = [7; 32];
    hash[..16].copy_from_slice(id.uuid().as_bytes());
    hash
}

fn new_signing_key() -> NewSigningKey {
    NewSigningKey {
        id: SigningKeyId::new(),
        name: String::new(),
        material: SigningMaterial::Secret(b"sealed secret".to_vec()),
        templates: None,
    }
}

fn wanted(tenant: &str, project: &str) -> Bootstrap {
    Bootstrap {
        tenant_name: tenant.into(),
        project_name: project.into(),
        plan: PlanName::Enterprise,
        key: new_key(),
        signing_key: new_signing_key(),
    }
}

/// A tenant with a project and keys.
pub(crate) async fn set_up(store: &Store, tenant: &str) -> Bootstrapped {
    store.directory.bootstrap(wanted(tenant, "main"), by(0)).await.expect("bootstraps")
}

/// Runs `count` tasks on as many threads as there are, and returns what they return.
async fn at_once<T, F>(count: usize, task: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let tasks: Vec<_> = (0..count).map(|index| tokio::spawn(task(index))).collect();
    join_all(tasks).await.into_iter().map(|task| task.expect("no task panics")).collect()
}
