//! A GraphQL request as it arrives, and the checks that make it one that can be executed.

use super::limits::Limits;
use super::{answer, document, scan};
use crate::query::Query;
use crate::rest::invalid;
use async_graphql::parser::parse_query;
use async_graphql::parser::types::OperationType;
use async_graphql::{Request, ServerError, Variables};
use serde::Deserialize;
use serde_json::Value;
use weir_core::trace::{TRACEPARENT, TRACESTATE};
use weir_core::{Code, TraceContext};
use weir_engine::Error;

/// The members of a request: a text, which of its operations, and values for its variables.
#[derive(Debug)]
pub(super) struct Params {
    query: String,
    operation_name: Option<String>,
    variables: Variables,
    context: Option<TraceContext>,
}

/// What stands in the body, whatever its types.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    query: Option<Value>,
    operation_name: Option<Value>,
    variables: Option<Value>,
    extensions: Option<Value>,
}

impl Params {
    /// Reads a JSON body.
    pub(super) fn from_body(body: &[u8]) -> Result<Self, Error> {
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            let message = "Batches of operations are not taken: send one operation per request.";
            return Err(Error::new(Code::InvalidRequest, message));
        }
        Self::from_members(crate::extract::json(body)?)
    }

    /// Reads the payload of a message that was parsed already.
    pub(super) fn from_value(value: Value) -> Result<Self, Error> {
        let body = serde_json::from_value(value);
        Self::from_members(body.map_err(|_| invalid("payload", "must be an object with a `query`"))?)
    }

    /// Reads the query of a URL, where the objects are JSON texts.
    pub(super) fn from_url(query: &Query) -> Result<Self, Error> {
        let text = |name: &str| query.first(name).map(|text| Value::from(text.to_owned()));
        let object = |name: &str| {
            let parsed = query.first(name).map(serde_json::from_str).transpose();
            parsed.map_err(|_| invalid(name, "must be a JSON object"))
        };
        Self::from_members(Body {
            query: text("query"),
            operation_name: text("operationName"),
            variables: object("variables")?,
            extensions: object("extensions")?,
        })
    }

    fn from_members(body: Body) -> Result<Self, Error> {
        let text = |name: &str, value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(name, "must be a string")),
        };
        let query = text("query", body.query)?
            .ok_or_else(|| invalid("query", "is required: the operation's text"))?;
        let operation_name = text("operationName", body.operation_name)?.filter(|name| !name.is_empty());
        let variables = match body.variables {
            None => Variables::default(),
            Some(values @ Value::Object(_)) => Variables::from_json(values),
            Some(_) => return Err(invalid("variables", "must be an object")),
        };
        let extension = |name| body.extensions.as_ref().and_then(|all| all.get(name)?.as_str());
        let context = TraceContext::read(extension(TRACEPARENT), extension(TRACESTATE));
        match body.extensions {
            None | Some(Value::Object(_)) => Ok(Self { query, operation_name, variables, context }),
            Some(_) => Err(invalid("extensions", "must be an object")),
        }
    }

    /// Where in a trace of the client's it was sent, as its extensions say: on a WebSocket there are no headers for it.
    pub(super) fn context(&self) -> Option<TraceContext> {
        self.context.clone()
    }

    /// Holds the text against the limits, parses it, and finds the operation that is meant.
    ///
    /// # Errors
    /// What is wrong with it, with its place in the text where that is known.
    pub(super) fn prepare(self, limits: &Limits) -> Result<(Request, OperationType), ServerError> {
        let refuse = |error: Error| answer::server_error(&error);
        scan::check(&self.query, limits).map_err(refuse)?;
        let document = parse_query(&self.query)?;
        document::check(&document, limits).map_err(refuse)?;
        let operation = document::choose(&document, self.operation_name.as_deref()).map_err(refuse)?;
        let mut variables = self.variables;
        for definition in &operation.variable_definitions {
            // The executor looks at defaults everywhere but in `@skip` and `@include`.
            let definition = &definition.node;
            if let Some(default) = &definition.default_value {
                let value = || default.node.clone();
                variables.entry(definition.name.node.clone()).or_insert_with(value);
            }
        }
        let kind = operation.ty;
        let mut request = Request::new(self.query).variables(variables);
        request.operation_name = self.operation_name;
        request.set_parsed_query(document);
        Ok((request, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> Option<String> {
        Params::from_body(body.as_bytes()).err().map(|error| error.message)
    }

    #[test]
    fn members_have_their_types() {
        assert_eq!(
            refusal(r#"{"query":"{a}","operationName":null,"variables":null,"extensions":null,"more":1}"#),
            None
        );
        assert_eq!(refusal(r#"{"query":"{a}","variables":{"x":[1]},"extensions":{}}"#), None);
        for (body, named) in [
            (r#"[{"query":"{a}"}]"#, "one operation"),
            (r#"{}"#, "`query`"),
            (r#"{"query":1}"#, "`query`"),
            (r#"{"query":"{a}","operationName":1}"#, "`operationName`"),
            (r#"{"query":"{a}","variables":[]}"#, "`variables`"),
            (r#"{"query":"{a}","extensions":"x"}"#, "`extensions`"),
            ("{", "not as documented"),
        ] {
            assert!(refusal(body).is_some_and(|message| message.contains(named)), "{body}");
        }
        let url = Query::parse(Some("query=%7Ba%7D&variables=%7B%22x%22:1%7D"));
        assert!(Params::from_url(&url).is_ok());
        assert!(Params::from_url(&Query::parse(Some("query=a&variables=1"))).is_err());
    }
}
