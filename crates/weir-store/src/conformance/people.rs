use super::place::Place;
use super::{at, at_once, by, new_key, set_up};
use crate::audit::Verification;
use crate::members::{Invitation, Joining, NewInvitation};
use crate::people::{Identity, NewUser};
use crate::sign_ins::{Refresh, Rotation};
use crate::{AccessChangeKind, After, Email, Store, StoreError, User};
use std::collections::BTreeSet;
use uuid::Uuid;
use weir_core::{InvitationId, Role, Secret, TenantId, Timestamp, UserId};

fn email(text: &str) -> Email {
    text.parse().expect("an address")
}

fn new_user(address: &str) -> NewUser {
    NewUser {
        id: UserId::new(),
        email: email(address),
        name: "Ada".into(),
        password_hash: Some(Secret::new("$argon2id$…")),
        identity: None,
        operator: false,
    }
}

fn invite(address: &str, tenant: TenantId, role: Role, token: u8) -> NewInvitation {
    let invitation = Invitation {
        id: InvitationId::new(),
        email: email(address),
        name: String::new(),
        seat: Some((tenant, role)),
        operator: false,
        created_at: at(1),
        expires_at: at(100),
    };
    NewInvitation { hash: [token; 32], invitation }
}

async fn tenant(store: &Store, name: &str) -> TenantId {
    set_up(store, name).await.access.tenant.id
}

async fn with_role(store: &Store, tenant: TenantId, address: &str, role: Role) -> User {
    let user = store.people.create(new_user(address), by(1)).await.expect("creates");
    store.members.join(tenant, user.id, role, by(2)).await.expect("joins");
    user
}

fn is_conflict<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict(_)))
}

pub async fn users_have_one_address_each(place: &Place) {
    let store = place.open().await;
    let new = new_user(" Ada@Example.COM ");
    let made = store.people.create(new.clone(), by(5)).await.expect("creates");
    assert_eq!((made.id, made.email.as_str(), made.created_at), (new.id, "ada@example.com", at(5)));
    assert_eq!((made.operator, made.disabled_at, made.session_version), (false, None, 1));
    assert_eq!(store.people.user(made.id).await.expect("reads"), made);
    let found = store.people.by_email(email("ADA@example.com")).await.expect("reads");
    assert_eq!(found, Some(made.clone()));
    assert!(is_conflict(store.people.create(new_user("ada@EXAMPLE.com"), by(6)).await), "taken");
    let missing = store.people.user(UserId::new()).await.expect_err("missing");
    assert!(matches!(missing, StoreError::NotFound("user")));
    for wrong in ["", "ada", "@example.com", "ada@", "a@b@c", "a da@example.com", "a\n@b.c"] {
        assert!(matches!(wrong.parse::<Email>(), Err(StoreError::Invalid(_))), "{wrong:?}");
    }
    let second = store.people.create(new_user("bob@example.com"), by(7)).await.expect("creates");
    let page = store.people.users(After::first(1)).await.expect("lists");
    assert_eq!((page.items, page.has_more), (vec![made.clone()], true));
    let rest = store.people.users(After { after: Some(made.id), limit: 9 }).await.expect("lists");
    assert_eq!((rest.items, rest.has_more), (vec![second], false));

    // A dearer hash of the same password takes the place of the old one, and of no other.
    let (old, new) = (Secret::new("$argon2id$…"), Secret::new("dearer"));
    store.people.rehash(made.id, Secret::new("other"), new.clone()).await.expect("does nothing");
    assert_eq!(store.people.user(made.id).await.expect("reads").password_hash, Some(old.clone()));
    store.people.rehash(made.id, old, new.clone()).await.expect("replaces");
    let read = store.people.user(made.id).await.expect("reads");
    assert_eq!((read.password_hash, read.session_version), (Some(new), 1));
}

pub async fn members_join_change_and_leave(place: &Place) {
    let store = place.open().await;
    let acme = tenant(&store, "acme").await;
    let owner = with_role(&store, acme, "owner@acme.test", Role::Owner).await;
    let ada = with_role(&store, acme, "ada@acme.test", Role::Viewer).await;
    assert!(is_conflict(store.members.join(acme, ada.id, Role::Admin, by(3)).await), "a member already");
    let standing = store.people.standing(ada.id, Some(acme)).await.expect("reads").expect("is there");
    assert_eq!(
        (standing.user, standing.member.map(|(role, tenant)| (role, tenant.id))),
        (ada.clone(), Some((Role::Viewer, acme)))
    );
    let nowhere = store.people.standing(ada.id, None).await.expect("reads").expect("is there");
    assert_eq!(nowhere.member, None);
    assert_eq!(store.people.standing(UserId::new(), Some(acme)).await.expect("reads"), None);

    let changed =
        store.members.set_role(acme, ada.id, (Role::Viewer, Role::Developer), by(4)).await.expect("changes");
    assert_eq!((changed.value.role, changed.change.kind), (Role::Developer, AccessChangeKind::MemberRole));
    let stale = store.members.set_role(acme, ada.id, (Role::Viewer, Role::Admin), by(4)).await;
    assert!(is_conflict(stale), "whoever changes a role knows the one it changes");
    assert!(is_conflict(store.members.remove(acme, ada.id, Role::Viewer, by(4)).await));
    assert_eq!((changed.change.tenant_id, &changed.change.subject), (acme, &ada.id.to_string()));
    let page = store.members.members(acme, After::first(1)).await.expect("lists");
    assert_eq!((page.items[0].user.id, page.items[0].role, page.has_more), (owner.id, Role::Owner, true));
    let memberships = store.people.memberships(ada.id).await.expect("lists");
    assert_eq!(memberships.len(), 1);
    assert_eq!((memberships[0].tenant_name.as_str(), memberships[0].role), ("acme", Role::Developer));

    let removed = store.members.remove(acme, ada.id, Role::Developer, by(5)).await.expect("removes");
    assert_eq!(removed.change.kind, AccessChangeKind::MemberRemoved);
    let gone = store.members.member(acme, ada.id).await.expect_err("gone");
    assert!(matches!(gone, StoreError::NotFound("member")));
    let again = store.members.remove(acme, ada.id, Role::Developer, by(6)).await.expect_err("gone");
    assert!(matches!(again, StoreError::NotFound("member")));
    assert_eq!(store.people.user(ada.id).await.expect("the user stays"), ada);
    let verified = store.audit.verify(Some(acme)).await.expect("reads");
    assert!(matches!(verified, Verification::Intact { .. }), "{verified:?}");
}

pub async fn a_tenant_keeps_an_owner(place: &Place) {
    let store = place.open().await;
    let acme = tenant(&store, "acme").await;
    let one = with_role(&store, acme, "one@acme.test", Role::Owner).await;
    let before = store.tenants.get(acme).await.expect("reads").access_version;
    assert!(is_conflict(store.members.remove(acme, one.id, Role::Owner, by(3)).await));
    assert!(is_conflict(store.members.set_role(acme, one.id, (Role::Owner, Role::Admin), by(3)).await));
    assert_eq!(store.tenants.get(acme).await.expect("reads").access_version, before, "nothing changed");
    store.members.set_role(acme, one.id, (Role::Owner, Role::Owner), by(3)).await.expect("stays an owner");

    let two = with_role(&store, acme, "two@acme.test", Role::Owner).await;
    store.people.set_disabled(two.id, true, by(4)).await.expect("disables");
    assert!(
        is_conflict(store.members.remove(acme, one.id, Role::Owner, by(5)).await),
        "a disabled owner is none"
    );
    store.people.set_disabled(two.id, false, by(6)).await.expect("lets in again");
    store.members.remove(acme, one.id, Role::Owner, by(7)).await.expect("another one is left");
}

pub async fn owners_who_remove_each_other_leave_one(place: &Place) {
    let store = place.open().await;
    for round in 0..5 {
        let acme = tenant(&store, &format!("acme {round}")).await;
        let mut owners = Vec::new();
        for n in 0..4 {
            let address = format!("o{n}@acme{round}.test");
            owners.push(with_role(&store, acme, &address, Role::Owner).await.id);
        }
        // Each removes or demotes the next one, all at once, through different nodes.
        let second = place.open().await;
        let results = at_once(4, |n| {
            let members = if n % 2 == 0 { store.members.clone() } else { second.members.clone() };
            let victim = owners[(n + 1) % 4];
            async move {
                if n < 2 {
                    members.remove(acme, victim, Role::Owner, by(9)).await
                } else {
                    members.set_role(acme, victim, (Role::Owner, Role::Viewer), by(9)).await
                }
            }
        })
        .await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3, "{results:?}");
        assert!(results.into_iter().filter(Result::is_err).all(is_conflict));
        let left = store.members.members(acme, After::first(9)).await.expect("lists").items;
        assert_eq!(left.iter().filter(|member| member.role == Role::Owner).count(), 1);
    }
}

pub async fn members_are_invisible_to_other_tenants(place: &Place) {
    let store = place.open().await;
    let (me, them) = (tenant(&store, "me").await, tenant(&store, "them").await);
    let theirs = with_role(&store, them, "t@them.test", Role::Owner).await;
    let seat =
        store.members.invite(invite("x@them.test", them, Role::Admin, 1), by(1)).await.expect("invites");
    let not_found = |error: StoreError| assert!(matches!(error, StoreError::NotFound(_)), "{error:?}");
    not_found(store.members.member(me, theirs.id).await.expect_err("read"));
    not_found(
        store.members.set_role(me, theirs.id, (Role::Owner, Role::Viewer), by(2)).await.expect_err("changed"),
    );
    not_found(store.members.remove(me, theirs.id, Role::Owner, by(2)).await.expect_err("removed"));
    not_found(store.members.withdraw(me, seat.id, by(2)).await.expect_err("withdrawn"));
    assert!(store.members.members(me, After::first(9)).await.expect("lists").items.is_empty());
    assert!(store.members.invitations(me, After::first(9)).await.expect("lists").items.is_empty());
    let nowhere = store.members.join(TenantId::new(), theirs.id, Role::Owner, by(2)).await;
    not_found(nowhere.expect_err("joined"));
}

pub async fn changes_to_a_user_reach_all_its_tenants(place: &Place) {
    let store = place.open().await;
    let (one, two) = (tenant(&store, "one").await, tenant(&store, "two").await);
    let ada = with_role(&store, one, "ada@example.test", Role::Owner).await;
    store.members.join(two, ada.id, Role::Viewer, by(3)).await.expect("joins");
    let refresh = |token: u8| Refresh {
        hash: [token; 32],
        family: Uuid::now_v7(),
        user_id: ada.id,
        tenant_id: Some(one),
        expires_at: at(90),
    };
    let mut version = ada.session_version;
    for step in 0..4_u8 {
        store.sign_ins.begin(refresh(step)).await.expect("signs in");
        let before = store.directory.access_head().await.expect("reads");
        let (changed, kind) = match step {
            0 => (
                store.people.set_password(ada.id, Secret::new("new"), by(10)).await,
                AccessChangeKind::UserPassword,
            ),
            1 => (store.people.set_operator(ada.id, true, by(11)).await, AccessChangeKind::UserOperator),
            2 => (store.people.set_disabled(ada.id, true, by(12)).await, AccessChangeKind::UserDisabled),
            _ => (store.people.set_disabled(ada.id, false, by(13)).await, AccessChangeKind::UserDisabled),
        };
        let changed = changed.expect("changes");
        assert!(changed.user.session_version > version, "what was issued before has ended");
        version = changed.user.session_version;
        let announced = store.directory.access_changes_after(before, 10).await.expect("reads");
        assert_eq!(announced, changed.changes);
        let tenants: BTreeSet<_> = announced.iter().map(|change| change.tenant_id).collect();
        assert_eq!(tenants, BTreeSet::from([one, two]));
        let subject = ada.id.to_string();
        assert!(announced.iter().all(|change| change.kind == kind && change.subject == subject));
        let rotated =
            store.sign_ins.rotate([step; 32], ([step + 50; 32], at(99)), at(14)).await.expect("asks");
        assert_eq!(rotated, Rotation::Refused, "nobody stays signed in over step {step}");
    }
    let user = store.people.user(ada.id).await.expect("reads");
    assert_eq!((user.operator, user.disabled_at), (true, None));
    let chain =
        store.audit.list(None, crate::audit::Filter::default(), After::first(20)).await.expect("lists").items;
    let actions: Vec<_> = chain.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["user.create", "user.password", "user.operator", "user.disabled", "user.disabled"]);
}

pub async fn changes_of_users_members_and_keys_do_not_deadlock(place: &Place) {
    let store = place.open().await;
    let (one, two) = (set_up(&store, "one").await, set_up(&store, "two").await);
    let tenants = [one.access.tenant.id, two.access.tenant.id];
    let projects = [one.access.project.id, two.access.project.id];
    let mut users = Vec::new();
    for n in 0..3 {
        let user = with_role(&store, tenants[0], &format!("u{n}@x.test"), Role::Owner).await;
        store.members.join(tenants[1], user.id, Role::Owner, by(2)).await.expect("joins");
        users.push(user.id);
    }
    let results = at_once(36, |n| {
        let (store, user) = (store.clone(), users[n % 3]);
        let (tenant, project) = (tenants[n % 2], projects[n % 2]);
        async move {
            match n % 6 {
                0 => store.people.set_password(user, Secret::new("x"), by(3)).await.map(drop),
                1 => store.members.set_role(tenant, user, (Role::Owner, Role::Owner), by(3)).await.map(drop),
                2 => {
                    let key = store.keys.create(tenant, project, new_key(), by(3)).await?;
                    store.keys.revoke(tenant, key.id, by(3)).await.map(drop)
                }
                3 => store.people.set_operator(user, true, by(3)).await.map(drop),
                4 => {
                    let address = format!("n{n}@x.test");
                    let seat = invite(&address, tenant, Role::Viewer, n as u8 + 100);
                    store.members.invite(seat, by(3)).await?;
                    let joining = Joining::New(new_user(&address));
                    store.members.accept([n as u8 + 100; 32], joining, by(3)).await.map(drop)
                }
                _ => {
                    let made = store.people.create(new_user(&format!("m{n}@x.test")), by(3)).await?;
                    store.members.join(tenant, made.id, Role::Viewer, by(3)).await.map(drop)
                }
            }
        }
    })
    .await;
    for result in results {
        result.expect("no change is refused for the sake of another");
    }
    for chain in [None, Some(tenants[0]), Some(tenants[1])] {
        let verified = store.audit.verify(chain).await.expect("reads");
        assert!(matches!(verified, Verification::Intact { .. }), "{verified:?}");
    }
}

pub async fn an_invitation_is_taken_once(place: &Place) {
    let store = place.open().await;
    let acme = tenant(&store, "acme").await;
    store.members.invite(invite("ada@acme.test", acme, Role::Developer, 7), by(1)).await.expect("invites");
    assert_eq!(
        store.people.by_email(email("ada@acme.test")).await.expect("reads"),
        None,
        "nobody is made yet"
    );

    // Somebody else's account cannot take it, nor does trying spend it.
    let other = store.people.create(new_user("eve@acme.test"), by(2)).await.expect("creates");
    let stolen = store.members.accept([7; 32], Joining::Known(other.id), by(3)).await;
    assert!(matches!(stolen, Err(StoreError::Invalid(_))), "{stolen:?}");
    let forced = Joining::Password(other.id, Secret::new("mine"));
    let forced = store.members.accept([7; 32], forced, by(3)).await;
    assert!(matches!(forced, Err(StoreError::Invalid(_))), "{forced:?}");

    let results = at_once(8, |_| {
        let members = store.members.clone();
        async move { members.accept([7; 32], Joining::New(new_user("ada@acme.test")), by(4)).await }
    })
    .await;
    let joined: Vec<_> = results.into_iter().filter_map(|result| result.expect("answers")).collect();
    assert_eq!(joined.len(), 1, "one takes it, the others find it gone");
    assert_eq!(joined[0].seat, Some((acme, Role::Developer)));
    assert_eq!(joined[0].changes[0].kind, AccessChangeKind::MemberJoined);
    let member = store.members.member(acme, joined[0].user.id).await.expect("reads");
    assert_eq!((member.role, member.joined_at), (Role::Developer, at(4)));
    let again = store.members.invite(invite("ADA@acme.test", acme, Role::Owner, 8), by(5)).await;
    assert!(is_conflict(again), "a member already");

    // A known user takes a seat in another tenant without losing the password.
    let bolt = tenant(&store, "bolt").await;
    store.members.invite(invite("ada@acme.test", bolt, Role::Viewer, 9), by(6)).await.expect("invites");
    let known = Joining::Known(member.user.id);
    let joined = store.members.accept([9; 32], known, by(7)).await.expect("answers").expect("is taken");
    assert_eq!(joined.user, member.user);
    assert_eq!(store.people.memberships(member.user.id).await.expect("lists").len(), 2);
}

pub async fn invitations_replace_expire_and_are_withdrawn(place: &Place) {
    let store = place.open().await;
    let acme = tenant(&store, "acme").await;
    store.members.invite(invite("ada@acme.test", acme, Role::Viewer, 1), by(1)).await.expect("invites");
    let second =
        store.members.invite(invite("ada@acme.test", acme, Role::Admin, 2), by(2)).await.expect("invites");
    assert_eq!(store.members.invitation([1; 32], at(3)).await.expect("reads"), None, "replaced");
    assert_eq!(store.members.invitation([2; 32], at(3)).await.expect("reads"), Some(second.clone()));
    let listed = store.members.invitations(acme, After::first(9)).await.expect("lists");
    assert_eq!((listed.items, listed.has_more), (vec![second.clone()], false));
    assert_eq!(store.members.invitation([2; 32], at(100)).await.expect("reads"), None, "expired");
    let late = store.members.accept([2; 32], Joining::New(new_user("ada@acme.test")), by(100)).await;
    assert_eq!(late.expect("answers"), None);

    store.members.withdraw(acme, second.id, by(4)).await.expect("withdraws");
    let gone = store.members.accept([2; 32], Joining::New(new_user("ada@acme.test")), by(5)).await;
    assert_eq!(gone.expect("answers"), None, "withdrawn");

    // Without a seat it is the right to set a password.
    let ada = store.people.create(new_user("ada@acme.test"), by(6)).await.expect("creates");
    for token in [3, 4] {
        let mut reset = invite("ada@acme.test", acme, Role::Viewer, token);
        reset.invitation.seat = None;
        store.members.invite(reset, by(7)).await.expect("offers");
    }
    let stale = store.members.accept([3; 32], Joining::Known(ada.id), by(8)).await.expect("answers");
    assert_eq!(stale, None, "the second took the place of the first");
    let joining = Joining::Password(ada.id, Secret::new("reset"));
    let joined = store.members.accept([4; 32], joining, by(8)).await.expect("answers").expect("taken");
    assert_eq!((joined.user.password_hash, joined.seat), (Some(Secret::new("reset")), None));
    store.members.invite(invite("old@acme.test", acme, Role::Viewer, 5), by(9)).await.expect("invites");
    assert_eq!(store.sign_ins.purge(at(99)).await.expect("purges"), 0);
    assert_eq!(store.sign_ins.purge(at(100)).await.expect("purges"), 1);
}

pub async fn refresh_tokens_rotate_and_reuse_ends_the_sign_in(place: &Place) {
    let store = place.open().await;
    let acme = tenant(&store, "acme").await;
    let ada = with_role(&store, acme, "ada@acme.test", Role::Viewer).await;
    let family = Uuid::now_v7();
    let first =
        Refresh { hash: [1; 32], family, user_id: ada.id, tenant_id: Some(acme), expires_at: at(100) };
    store.sign_ins.begin(first.clone()).await.expect("signs in");
    let rotate = |old: u8, new: u8, now: Timestamp| {
        let sign_ins = store.sign_ins.clone();
        async move { sign_ins.rotate([old; 32], ([new; 32], at(200)), now).await.expect("answers") }
    };
    assert_eq!(rotate(9, 10, at(5)).await, Rotation::Refused, "unknown");
    let second = Refresh { hash: [2; 32], expires_at: at(200), ..first };
    assert_eq!(rotate(1, 2, at(5)).await, Rotation::Rotated(second));
    assert_eq!(rotate(1, 3, at(6)).await, Rotation::Reused(ada.id));
    assert_eq!(rotate(2, 4, at(7)).await, Rotation::Refused, "the good one ended with the rest");

    // Of many at once, one rotates; the others are reuse, and end what the one got.
    let race = Refresh {
        hash: [20; 32],
        family: Uuid::now_v7(),
        user_id: ada.id,
        tenant_id: None,
        expires_at: at(100),
    };
    store.sign_ins.begin(race).await.expect("signs in");
    let results = at_once(6, |n| rotate(20, 30 + n as u8, at(8))).await;
    assert_eq!(results.iter().filter(|result| matches!(result, Rotation::Rotated(_))).count(), 1);
    for n in 0..6 {
        assert_eq!(rotate(30 + n, 99, at(9)).await, Rotation::Refused);
    }

    let other = Refresh {
        hash: [40; 32],
        family: Uuid::now_v7(),
        user_id: ada.id,
        tenant_id: None,
        expires_at: at(100),
    };
    store.sign_ins.begin(other).await.expect("signs in");
    assert_eq!(rotate(40, 41, at(100)).await, Rotation::Refused, "expired");
    assert!(matches!(rotate(40, 41, at(99)).await, Rotation::Rotated(_)));
    store.sign_ins.end([41; 32]).await.expect("signs out");
    assert_eq!(rotate(41, 42, at(99)).await, Rotation::Refused, "signed out");
    store.sign_ins.end([77; 32]).await.expect("unknown ones are ignored");
    assert_eq!(store.sign_ins.purge(at(300)).await.expect("purges"), 0, "nothing was left behind");
}

pub async fn identities_belong_to_one_user(place: &Place) {
    let store = place.open().await;
    let identity = |subject: &str| Identity { issuer: "https://id.test".into(), subject: subject.into() };
    let ada = store.people.create(new_user("ada@acme.test"), by(1)).await.expect("creates");
    let bob = store.people.create(new_user("bob@acme.test"), by(1)).await.expect("creates");
    let linked = store.people.link(ada.id, identity("1"), by(2)).await.expect("links");
    assert_eq!(linked.identity, Some(identity("1")));
    store.people.link(ada.id, identity("1"), by(3)).await.expect("again is fine");
    assert!(is_conflict(store.people.link(ada.id, identity("2"), by(3)).await), "somebody else already");
    assert!(is_conflict(store.people.link(bob.id, identity("1"), by(3)).await), "taken");
    let found = store.people.by_identity(identity("1")).await.expect("reads");
    assert_eq!(found.map(|user| user.id), Some(ada.id));
    assert_eq!(store.people.by_identity(identity("3")).await.expect("reads"), None);
}
