//! Publishing: scope, standing, rate, size, schema, then the log's durable answer.

use crate::billing::Admitted;
use crate::engine::Engine;
use crate::schemas::{ProjectSchemas, Steps};
use crate::trace::Origin;
use crate::{Caller, Error};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::oneshot;
use tracing::{Instrument, Span, field, info_span};
use weir_core::topic::SYSTEM;
use weir_core::trace::{ROOT, number};
use weir_core::{Code, Cursor, EventId, NewEvent, Timestamp, Topic, TraceContext};
use weir_log::{EventLog, LogError, Outcome, Place, Record};

/// An accepted event: durable, and on its way to its subscribers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Its id: the publisher's, or the one it was given.
    pub id: EventId,
    /// Where it was published.
    pub topic: Topic,
    /// Its place in the project's order.
    pub sequence: u64,
    /// The cursor just after it.
    pub cursor: String,
    /// When it was accepted.
    pub published_at: Timestamp,
    /// True when an equal event with this id had been accepted before and nothing was added.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

impl Engine {
    /// Publishes one event. Order: two calls from one thread are stored in the order of the calls, as
    /// the event is put in line before this returns.
    ///
    /// # Errors
    /// In the future's result: what the caller may not do, what the event lacks, or that the log did
    /// not confirm (then try again with the same event id).
    pub fn publish(&self, caller: &Caller, event: NewEvent) -> BoxFuture<'static, Result<Published, Error>> {
        self.publish_from(&Origin::default(), caller, event)
    }

    /// The same, of a request that is traced or came with a trace context: the event carries on where it is published, in
    /// its headers, unless its publisher said otherwise in them.
    ///
    /// # Errors
    /// Those of [`Engine::publish`].
    pub fn publish_from(
        &self,
        origin: &Origin,
        caller: &Caller,
        event: NewEvent,
    ) -> BoxFuture<'static, Result<Published, Error>> {
        let outcome = self.publish_batch_from(origin, caller, vec![event]);
        async move { outcome.await?.pop().unwrap_or_else(|| Err(Error::internal("the log gave no outcome"))) }
            .boxed()
    }

    /// Publishes several events, in their order; each is judged on its own.
    ///
    /// # Errors
    /// As a whole when the log did not confirm; for one event when it was refused.
    pub fn publish_batch(
        &self,
        caller: &Caller,
        events: Vec<NewEvent>,
    ) -> BoxFuture<'static, Result<Vec<Result<Published, Error>>, Error>> {
        self.publish_batch_from(&Origin::default(), caller, events)
    }

    /// The same, of a request that is traced or came with a trace context; see [`Engine::publish_from`].
    ///
    /// # Errors
    /// Those of [`Engine::publish_batch`].
    pub fn publish_batch_from(
        &self,
        origin: &Origin,
        caller: &Caller,
        events: Vec<NewEvent>,
    ) -> BoxFuture<'static, Result<Vec<Result<Published, Error>>, Error>> {
        if let Err(error) = self.access.require_fresh() {
            return ready(Err(error)).boxed();
        }
        let mut slots: Vec<Result<(EventId, Topic), Error>> = Vec::with_capacity(events.len());
        let mut records = Vec::with_capacity(events.len());
        let origin = self.traces().publish(origin, |around| span(around, caller, &events));
        for event in events {
            slots.push(self.accept(caller, event, origin.context()).map(|record| {
                let named = (record.id.clone(), record.topic.clone());
                records.push(record);
                named
            }));
        }
        if records.is_empty() {
            let refused = slots.into_iter().map(|slot| slot.and_then(|_| Err(Error::internal("empty"))));
            return ready(Ok(refused.collect())).boxed();
        }
        let (log, place) = (Arc::clone(&self.log), caller.place.clone());
        let (begun, begins) = oneshot::channel();
        let (span, within) = (origin.span().clone(), origin.span().clone());
        let allowances = Arc::clone(&self.allowances);
        caller.schemas.with(move |schemas| {
            // Who waited may have gone, here and below.
            if begun.is_closed() {
                return;
            }
            let (records, unfit) = sift(schemas, records);
            if records.is_empty() {
                let nothing: Begun = ready(Ok((Vec::new(), None))).boxed();
                let _ = begun.send((nothing, unfit));
                return;
            }
            allowances.admit(place.tenant, records.len(), move |admitted| {
                if !begun.is_closed() {
                    let _ = begun.send((within.in_scope(|| begin(&*log, &place, records, admitted)), unfit));
                } else if let Admitted::Counted(units, _) = admitted {
                    units.used(0);
                }
            });
        });
        let (cursors, project) = (self.cursors.clone(), caller.place.project);
        let signals = Arc::clone(&self.alerts.signals);
        let published = async move {
            let (begun, unfit) =
                begins.await.map_err(|_| Error::new(Code::Draining, "This node is shutting down."))?;
            let (outcomes, refusal) = begun.await?;
            let (mut unfit, mut place) = (unfit.into_iter().peekable(), 0..);
            signals.published(outcomes.len());
            let mut outcomes = outcomes.into_iter();
            let answer = |named: (EventId, Topic)| {
                let here = place.next();
                if let Some((_, error)) = unfit.next_if(|(place, _)| Some(*place) == here) {
                    return Err(error);
                }
                match outcomes.next() {
                    Some(Outcome::Appended(appended)) => Ok(Published {
                        id: named.0,
                        topic: named.1,
                        sequence: appended.position.sequence,
                        cursor: cursors.encode(&Cursor { project, position: appended.position }),
                        published_at: appended.published_at,
                        duplicate: appended.duplicate,
                    }),
                    Some(Outcome::Conflict) => Err(conflict(&named.0)),
                    None => Err(refusal
                        .as_deref()
                        .cloned()
                        .unwrap_or_else(|| Error::internal("the log gave fewer outcomes than records"))),
                }
            };
            let mut answer = answer;
            Ok(slots.into_iter().map(|slot| slot.and_then(&mut answer)).collect())
        };
        // Not one more thing to poll where nothing is recorded.
        if span.is_none() { published.boxed() } else { told(published, span).boxed() }
    }

    fn accept(
        &self,
        caller: &Caller,
        event: NewEvent,
        context: Option<&TraceContext>,
    ) -> Result<Record, Error> {
        if event.topic.is_system() {
            return Err(reserved(&event.topic));
        }
        caller.may_publish(&event.topic)?;
        event.payload.fits(caller.limits.payload_bytes as usize)?;
        let NewEvent { id, topic, payload, kind, mut headers } = event;
        if let Some(context) = context {
            headers.carry(context);
        }
        let dedupe = id.is_some();
        Ok(Record {
            id: id.unwrap_or_else(EventId::generate),
            dedupe,
            topic,
            payload,
            kind,
            headers,
            published_at: self.clock.now(),
        })
    }
}

/// The span of publishing (OpenTelemetry's conventions for messaging).
fn span(around: &Span, caller: &Caller, events: &[NewEvent]) -> Span {
    let span = info_span!(
        target: ROOT, parent: around, "publish",
        otel.kind = "producer",
        otel.status_code = field::Empty,
        error.type = field::Empty,
        messaging.system = "weir",
        messaging.operation.name = "publish",
        messaging.operation.type = "send",
        messaging.destination.name = field::Empty,
        messaging.message.id = field::Empty,
        messaging.message.body.size = field::Empty,
        messaging.batch.message_count = field::Empty,
        weir.sequence = field::Empty,
        weir.tenant = %caller.place.tenant,
        weir.project = %caller.place.project,
    );
    match events {
        [event] => {
            span.record("messaging.destination.name", event.topic.as_str());
            span.record("messaging.message.body.size", number(event.payload.len()));
        }
        events => {
            span.record("messaging.batch.message_count", number(events.len()));
        }
    }
    span
}

/// Notes in the span what came of a publish.
async fn told<T>(published: T, span: Span) -> T::Output
where
    T: Future<Output = Result<Vec<Result<Published, Error>>, Error>> + Send,
{
    let outcome = published.instrument(span.clone()).await;
    match outcome.as_deref() {
        Ok([Ok(published)]) => {
            span.record("messaging.message.id", published.id.as_str());
            span.record("weir.sequence", number(published.sequence));
        }
        Ok([Err(error)]) | Err(error) => {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", error.code.as_str());
        }
        Ok(_) => {}
    }
    outcome
}

/// Sorts out what does not fit the project's schemas; each of it with its place.
fn sift(
    schemas: Result<Option<&ProjectSchemas>, Error>,
    records: Vec<Record>,
) -> (Vec<Record>, Vec<(usize, Error)>) {
    let schemas = match schemas {
        Ok(None) => return (records, Vec::new()),
        Ok(Some(schemas)) => schemas,
        Err(error) => return (Vec::new(), (0..records.len()).map(|place| (place, error.clone())).collect()),
    };
    let (mut fit, mut unfit) = (Vec::with_capacity(records.len()), Vec::new());
    let mut steps = Steps::default();
    for (place, record) in records.into_iter().enumerate() {
        match schemas.check(&record.topic, &record.payload, &mut steps) {
            Ok(()) => fit.push(record),
            Err(error) => unfit.push((place, error)),
        }
    }
    (fit, unfit)
}

/// What the log said of the events that were let go, and why the others were not.
type Begun = BoxFuture<'static, Result<(Vec<Outcome>, Option<Arc<Error>>), Error>>;

/// Puts the events in line that were let go, and afterwards gives back the units of those that were not stored.
fn begin(log: &dyn EventLog, place: &Place, mut records: Vec<Record>, admitted: Admitted) -> Begun {
    let (units, refusal) = match admitted {
        Admitted::Uncounted => (None, None),
        Admitted::Counted(units, refusal) => (Some(units), refusal),
        Admitted::Refused(refusal) => return ready(Ok((Vec::new(), Some(refusal)))).boxed(),
    };
    if let Some(units) = &units {
        records.truncate(units.count());
        for record in &mut records {
            record.published_at = units.time(record.published_at);
        }
        if records.is_empty() {
            return ready(Ok((Vec::new(), refusal))).boxed();
        }
    }
    let appended = log.append(place, records);
    async move {
        match appended.await {
            Ok(outcomes) => {
                let stored = |outcome: &&Outcome| {
                    matches!(outcome, Outcome::Appended(appended) if !appended.duplicate)
                };
                units.into_iter().for_each(|units| units.used(outcomes.iter().filter(stored).count()));
                Ok((outcomes, refusal))
            }
            Err(error) => {
                // After any other error nobody knows, which is what it means to drop them.
                if matches!(error, LogError::Overloaded { .. }) {
                    units.into_iter().for_each(|units| units.used(0));
                }
                Err(error.into())
            }
        }
    }
    .boxed()
}

fn reserved(topic: &Topic) -> Error {
    Error::new(
        Code::InvalidTopic,
        format!("`{topic}` is the server's own: only it publishes to topics that begin with `{SYSTEM}`. Use another first token."),
    )
    .with(json!({ "topic": topic.as_str(), "reserved": SYSTEM }))
}

fn conflict(id: &EventId) -> Error {
    Error::new(
        Code::DuplicateEventId,
        format!("An event with id `{id}` and other content was published within the dedupe window. Use a new id for a new event."),
    )
    .with(json!({ "id": id.as_str() }))
}
