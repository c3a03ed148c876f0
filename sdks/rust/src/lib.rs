//! Rust client of Weir: publish, subscribe with gap-free resume, replay.
//!
//! A [`Client`] is cheap to clone and shares one connection pool. A [`Subscription`] is a stream that
//! reconnects by itself, resumes with the cursor of the last event and hands every event over once; what
//! the server can no longer give is announced as a [`Gap`], never left out silently.
//!
//! ```no_run
//! use futures::StreamExt;
//! use weir_client::{Client, Delivery, NewEvent};
//!
//! # async fn example() -> Result<(), weir_client::Error> {
//! let client = Client::builder("http://127.0.0.1:8080").api_key("weir_…").build()?;
//! let mut events = client.subscribe(["orders.>"]).connect().await?;
//!
//! let published = client.publish(NewEvent::new("orders.eu", &serde_json::json!({ "total": 42 }))?).await?;
//! println!("durable as number {}", published.sequence);
//!
//! while let Some(delivery) = events.next().await {
//!     match delivery? {
//!         Delivery::Event(event) => println!("{} {}", event.topic, event.payload.get()),
//!         Delivery::Gap(gap) => println!("missed something: {gap}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Depends on no server crate. Start reading at [`client`](Client), then `subscribe/mod.rs`.

mod backoff;
mod client;
mod credentials;
mod error;
mod event;
mod event_stream;
mod publish;
mod replay;
mod request;
mod subscribe;

pub use client::{Builder, Client};
pub use error::{Error, Result};
pub use event::{Delivery, Event, Gap, GapReason, NewEvent, Published, Start, TopicHead};
pub use replay::ReplayQuery;
pub use serde_json::value::RawValue;
pub use subscribe::{Subscribe, Subscription, Transport};
