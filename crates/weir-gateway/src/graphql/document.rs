//! The measure of a parsed document: how much it selects once its fragments are put in place.

use super::limits::{Limits, exceeded};
use async_graphql::Name;
use async_graphql::parser::types::{
    ExecutableDocument, Field, OperationDefinition, OperationType, Selection, SelectionSet,
};
use std::collections::HashMap;
use weir_core::Code;
use weir_engine::Error;

/// How deep a question about the schema may go: the usual one has thirteen levels.
const INTROSPECTION_DEPTH: usize = 20;

/// Sums over a selection with its fragments in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Measure {
    selections: usize,
    depth: usize,
    aliases: usize,
    directives: usize,
    /// The depth below `__schema` and `__type`.
    introspection: usize,
}

impl Measure {
    /// Beside another: sums grow, the deeper depth holds.
    fn beside(self, other: Self) -> Self {
        Self {
            selections: self.selections.saturating_add(other.selections),
            aliases: self.aliases.saturating_add(other.aliases),
            directives: self.directives.saturating_add(other.directives),
            depth: self.depth.max(other.depth),
            introspection: self.introspection.max(other.introspection),
        }
    }
}

struct Measurer<'a> {
    document: &'a ExecutableDocument,
    /// A fragment's measure; `None` while it is being taken, so that a cycle is seen.
    known: HashMap<&'a Name, Option<Measure>>,
}

impl<'a> Measurer<'a> {
    fn set(&mut self, set: &'a SelectionSet) -> Result<Measure, Error> {
        let mut sum = Measure::default();
        for item in &set.items {
            let mut one = match &item.node {
                Selection::Field(field) => self.field(&field.node)?,
                Selection::InlineFragment(fragment) => self.set(&fragment.node.selection_set.node)?,
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node)?,
            };
            one.selections = one.selections.saturating_add(1);
            one.directives = one.directives.saturating_add(item.node.directives().len());
            sum = sum.beside(one);
        }
        Ok(sum)
    }

    fn field(&mut self, field: &'a Field) -> Result<Measure, Error> {
        let mut inner = self.set(&field.selection_set.node)?;
        inner.aliases = inner.aliases.saturating_add(usize::from(field.alias.is_some()));
        match field.name.node.as_str() {
            "__schema" | "__type" => {
                inner.introspection = inner.introspection.max(inner.depth + 1);
                inner.depth = 1;
            }
            _ => inner.depth += 1,
        }
        Ok(inner)
    }

    /// Each fragment is visited once, wherever it is spread. One that is missing is the validator's to name.
    fn fragment(&mut self, name: &'a Name) -> Result<Measure, Error> {
        match self.known.get(name) {
            Some(Some(known)) => return Ok(*known),
            Some(None) => {
                let message = format!("The fragment `{}` contains itself.", crate::query::cut(name));
                return Err(Error::new(Code::InvalidRequest, message));
            }
            None => {}
        }
        let document = self.document;
        let Some(fragment) = document.fragments.get(name) else { return Ok(Measure::default()) };
        self.known.insert(name, None);
        let mut measure = self.set(&fragment.node.selection_set.node)?;
        measure.directives = measure.directives.saturating_add(fragment.node.directives.len());
        self.known.insert(name, Some(measure));
        Ok(measure)
    }
}

/// Refuses a document that is larger than the limits once its fragments are in place, or that has no end.
pub(super) fn check(document: &ExecutableDocument, limits: &Limits) -> Result<(), Error> {
    let mut measurer = Measurer { document, known: HashMap::new() };
    let mut all = Measure::default();
    for (_, operation) in document.operations.iter() {
        let operation = &operation.node;
        let variables = operation.variable_definitions.iter().map(|one| one.node.directives.len());
        let mut one = measurer.set(&operation.selection_set.node)?;
        one.directives += operation.directives.len() + variables.sum::<usize>();
        all = all.beside(one);
    }
    // A cycle among fragments that nobody uses would still be walked by the validator.
    for name in document.fragments.keys() {
        measurer.fragment(name)?;
    }
    let bounds = [
        ("depth", all.depth, limits.depth),
        ("depth", all.introspection, INTROSPECTION_DEPTH),
        ("aliases", all.aliases, limits.aliases),
        ("directives", all.directives, limits.directives),
        ("cost", all.selections, limits.cost),
    ];
    match bounds.into_iter().find(|(_, found, limit)| found > limit) {
        Some((what, found, limit)) => Err(exceeded(what, found, limit)),
        None => Ok(()),
    }
}

/// The operation that a request means: the one of that name, or the only one.
pub(super) fn choose<'a>(
    document: &'a ExecutableDocument,
    name: Option<&str>,
) -> Result<&'a OperationDefinition, Error> {
    let mut operations = document.operations.iter();
    let found = match name {
        Some(name) => operations.find(|(known, _)| known.is_some_and(|known| known.as_str() == name)),
        None => match (operations.next(), operations.next()) {
            (only, None) => only,
            _ => {
                let message = "The document has several operations: name one in `operationName`.";
                return Err(Error::new(Code::InvalidRequest, message));
            }
        },
    };
    let unknown = || {
        let message =
            format!("The document has no operation `{}`.", crate::query::cut(name.unwrap_or_default()));
        Error::new(Code::InvalidRequest, message)
    };
    let operation = &found.ok_or_else(unknown)?.1.node;
    let fields = &operation.selection_set.node.items;
    let single = matches!(fields.as_slice(), [one] if matches!(one.node, Selection::Field(_)));
    if operation.ty == OperationType::Subscription && !single {
        // As the specification has it; what runs subscriptions would take several, and pass over fragments.
        let message = "A subscription selects exactly one field, without a fragment around it.";
        return Err(Error::new(Code::InvalidRequest, message));
    }
    Ok(operation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::parser::parse_query;

    fn verdict(text: &str) -> Result<(), String> {
        let document = parse_query(text).expect("parses");
        check(&document, &Limits::default())
            .map_err(|error| error.details["what"].as_str().unwrap_or("cycle").to_owned())
    }

    #[test]
    fn every_limit_is_met() {
        assert_eq!(verdict("{ a { b { c { d { e { f { g { h } } } } } } } }"), Ok(()));
        assert_eq!(verdict("{ a { b { c { d { e { f { g { h { i } } } } } } } } }"), Err("depth".into()));
        let aliases: String = (0..21).map(|n| format!("a{n}: a ")).collect();
        assert_eq!(verdict(&format!("{{ {aliases} }}")), Err("aliases".into()));
        assert_eq!(verdict(&format!("{{ a {} }}", "@skip(if: false) ".repeat(21))), Err("directives".into()));
        assert_eq!(verdict(&format!("{{ {} }}", "a ".repeat(501))), Err("cost".into()));
        assert_eq!(
            verdict("{ ...A } fragment A on Q { ...B } fragment B on Q { ...A }"),
            Err("cycle".into())
        );
        assert_eq!(verdict("{ a } fragment A on Q { ...A }"), Err("cycle".into()));
    }

    #[test]
    fn fragments_that_double_are_counted_without_being_expanded() {
        let mut text = "{ ...F0 } ".to_owned();
        for n in 0..60 {
            text.push_str(&format!("fragment F{n} on Q {{ ...F{} ...F{} }} ", n + 1, n + 1));
        }
        text.push_str("fragment F60 on Q { a }");
        assert_eq!(verdict(&text), Err("cost".into()));
    }

    #[test]
    fn introspection_may_go_deeper() {
        assert_eq!(verdict("{ __schema { a { b { c { d { e { f { g { h { i } } } } } } } } } }"), Ok(()));
        let deep = format!("{{ __type {}{} }}", "{ a ".repeat(21), "}".repeat(21));
        assert_eq!(verdict(&deep), Err("depth".into()));
    }

    #[test]
    fn one_operation_is_chosen() {
        let document = parse_query("query A { a } mutation B { b }").expect("parses");
        assert!(choose(&document, None).is_err());
        assert!(choose(&document, Some("C")).is_err());
        assert_eq!(choose(&document, Some("B")).map(|found| found.ty).ok(), Some(OperationType::Mutation));
        let document = parse_query("subscription { a b }").expect("parses");
        assert!(choose(&document, None).is_err());
    }
}
