//! What is let go when limits are reached: the model of property 31, which stands in `persistence.rs`.

use crate::world::{World, text};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use reqwest::Method;
use serde_json::{Value, json};
use weir_testkit::{Answer, Api, until};

/// What a project is limited to.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// Not at all, but for its tenant's.
    None,
    /// This part of its bytes.
    Bytes(f64),
    /// A second.
    Age,
}

/// A tenant: the payloads' lengths of each project with its limit, and the part of all bytes that it may keep.
#[derive(Clone, Debug)]
pub struct Case {
    projects: Vec<(Vec<usize>, Limit)>,
    keeps: f64,
}

pub fn case() -> impl Strategy<Value = Case> {
    let length = prop_oneof![4 => 1..400_usize, 1 => 5_000..30_000_usize];
    let limit =
        prop_oneof![3 => Just(Limit::None), 2 => (0.0..1.2).prop_map(Limit::Bytes), 1 => Just(Limit::Age)];
    let projects = vec((vec(length, 1..25), limit), 1..4);
    (projects, 0.0..1.3).prop_map(|(projects, keeps)| Case { projects, keeps })
}

/// A project as it should be.
struct Kept {
    id: String,
    api: Api,
    /// Sequence and bytes of what is kept, the oldest first.
    events: Vec<(u64, u64)>,
    /// The cursor of the first event that was ever published, and the last sequence that went.
    start: (String, u64),
}

impl Kept {
    fn bytes(&self) -> u64 {
        self.events.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The longest row of the newest that fits.
    fn hold(&mut self, bytes: u64) {
        while self.bytes() > bytes {
            self.start.1 = self.events.remove(0).0;
        }
    }
}

/// By trying all: the greatest share for each with which all together have no more than they may.
fn share(projects: &[Kept], most: u64) -> u64 {
    let kept = |share: u64| projects.iter().map(|project| project.bytes().min(share)).sum::<u64>();
    if kept(u64::MAX) <= most {
        return u64::MAX;
    }
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if kept(middle) <= most { low = middle } else { high = middle - 1 }
    }
    low
}

fn part(of: u64, part: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let bytes = (of as f64 * part) as u64;
    bytes.max(1)
}

pub async fn lets_go(world: &mut World, case: Case) -> TestCaseResult {
    let operator = world.staff().await.operator.clone();
    let (bystander, name) = world.fresh();
    let (bystander, operator) = (world.app.api(&bystander.api_key), world.app.api_at(1, &operator));
    bystander.publish(&name, &json!("stays")).await;
    let tenant = text(
        &operator.post("/v1/admin/tenants", &json!({"name": name, "plan": "pro"})).await.expect(201)["id"],
    );
    let mut kept = Vec::new();
    for (number, (lengths, _)) in case.projects.iter().enumerate() {
        kept.push(publish(world, &operator, &tenant, number, lengths).await);
    }
    settle(&operator, &tenant, &kept).await?;

    // Each project its own limit first, then all of them their tenant's.
    for (project, (_, limit)) in kept.iter_mut().zip(&case.projects) {
        let limits = match limit {
            Limit::None => continue,
            Limit::Bytes(of) => {
                let bytes = part(project.bytes(), *of);
                project.hold(bytes);
                json!({"retention_bytes": bytes})
            }
            Limit::Age => {
                project.hold(0);
                json!({"retention_seconds": 1})
            }
        };
        let path = format!("/v1/admin/projects/{}", project.id);
        Answer::of(operator.request(Method::PATCH, &path).json(&json!({"limits": limits}))).await.expect(200);
    }
    settle(&operator, &tenant, &kept).await?;
    let most = part(kept.iter().map(Kept::bytes).sum(), case.keeps);
    let share = share(&kept, most);
    kept.iter_mut().for_each(|project| project.hold(share));
    let path = format!("/v1/admin/tenants/{tenant}");
    let limits = json!({"limits": {"retention_bytes": most}});
    Answer::of(operator.request(Method::PATCH, &path).json(&limits)).await.expect(200);
    settle(&operator, &tenant, &kept).await?;

    for project in &kept {
        told(project).await?;
    }
    prop_assert_eq!(bystander.replay(&name, None).await.len(), 1, "another tenant's history went");
    Ok(())
}

/// Makes a project and publishes in it, a hundred events at once.
async fn publish(world: &World, operator: &Api, tenant: &str, number: usize, lengths: &[usize]) -> Kept {
    let path = format!("/v1/admin/tenants/{tenant}/projects");
    let made = operator.post(&path, &json!({"name": format!("p{number}")})).await.expect(201);
    let id = text(&made["id"]);
    let wish = json!({"name": "k", "scopes": ["events:publish", "events:subscribe"], "project_id": id});
    let key = operator.post("/v1/admin/keys", &wish).await.expect(201);
    let api = world.app.api_at(number, &text(&key["api_key"]));
    let events: Vec<Value> =
        lengths.iter().map(|length| json!({"topic": "t.x", "payload": "x".repeat(*length)})).collect();
    let answer = api.post("/v1/events/batch", &json!({"events": events})).await.expect(201);
    let results = answer["results"].as_array().cloned().unwrap_or_default();
    let size = |(event, length): (&Value, &usize)| {
        let id = event["id"].as_str().map_or(0, str::len);
        (event["sequence"].as_u64().unwrap_or_default(), (id + "t.x".len() + length + 2) as u64)
    };
    let events = results.iter().zip(lengths).map(size).collect();
    Kept { id, api, events, start: (text(&results[0]["cursor"]), 0) }
}

/// Waits until the numbers that are told are those of what should be kept.
async fn settle(operator: &Api, tenant: &str, kept: &[Kept]) -> TestCaseResult {
    let path = format!("/v1/admin/tenants/{tenant}/storage");
    let expected: Vec<(u64, u64)> = kept.iter().map(|p| (p.events.len() as u64, p.bytes())).collect();
    let mut seen = Value::Null;
    let settled = until("what is kept to be what should be", async || {
        seen = operator.get(&path, &[]).await.expect(200);
        let number = |value: &Value, field: &str| value[field].as_u64().unwrap_or_default();
        let told: Vec<(u64, u64)> = kept
            .iter()
            .map(|project| {
                let all = seen["data"].as_array().into_iter().flatten();
                let own = all.clone().find(|one| one["project_id"] == project.id.as_str()).cloned();
                let own = own.unwrap_or_default();
                (number(&own, "events"), number(&own, "bytes"))
            })
            .collect();
        (told == expected).then_some(())
    });
    settled.await;
    let total = (seen["total"]["events"].as_u64(), seen["total"]["bytes"].as_u64());
    let sum = |of: fn(&(u64, u64)) -> u64| Some(expected.iter().map(of).sum::<u64>());
    prop_assert_eq!(total, (sum(|one| one.0), sum(|one| one.1)));
    Ok(())
}

/// A reader from the beginning gets what is kept, and is told of what is not.
async fn told(project: &Kept) -> TestCaseResult {
    let query = [("topics", ">"), ("after", project.start.0.as_str()), ("limit", "1000")];
    // The cursor stands behind the first event.
    let whole = project.start.1 == 0;
    let kept = project.events.iter().map(|(sequence, _)| *sequence);
    let expected: Vec<u64> = kept.skip(usize::from(whole)).collect();
    // A floor is written down just before the log is told of it.
    let page = until("the log to let go what was written down", async || {
        let page = project.api.get("/v1/events", &query).await.expect(200);
        let data = page["data"].as_array().cloned().unwrap_or_default();
        let got: Vec<u64> = data.iter().filter_map(|event| event["sequence"].as_u64()).collect();
        (got == expected).then_some(page)
    })
    .await;
    let expired = &page["gap"];
    match project.start.1 {
        0 => prop_assert_eq!(expired, &Value::Null),
        through if expired.is_null() => {
            // Only the first event went, which a cursor behind it does not miss.
            let query = [("topics", ">"), ("from_sequence", "1")];
            let page = project.api.get("/v1/events", &query).await.expect(200);
            prop_assert_eq!(&page["gap"]["to"], &json!(through));
        }
        through => {
            prop_assert_eq!(&expired["reason"], &json!("expired"));
            prop_assert_eq!(&expired["to"], &json!(through));
        }
    }
    Ok(())
}
