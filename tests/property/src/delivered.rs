//! The tags of the property tests are the design document's own words, each exactly once.

use std::collections::BTreeMap;

/// The document's properties, `number: text` a line.
const DOCUMENT: &str = include_str!("../properties.txt");

/// Which of them are delivered. A later one is added together with its test.
const DELIVERED: [u32; 35] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
    29, 30, 31, 32, 33, 34, 35,
];

const SOURCES: [&str; 12] = [
    include_str!("auth.rs"),
    include_str!("billing.rs"),
    include_str!("graphql.rs"),
    include_str!("observability/alerts.rs"),
    include_str!("observability/metrics.rs"),
    include_str!("observability/traces.rs"),
    include_str!("payments.rs"),
    include_str!("persistence.rs"),
    include_str!("publishing.rs"),
    include_str!("rbac.rs"),
    include_str!("sse.rs"),
    include_str!("websocket.rs"),
];

/// Number and text of every tag in a source file; a tag is a doc comment of its own, over any number of
/// lines.
fn tags(source: &str) -> Vec<(u32, String)> {
    let comments = source
        .split("\n\n")
        .filter_map(|block| block.split_once("/// Feature: realtime-saas-platform, Property "));
    comments
        .map(|(_, rest)| {
            let lines: Vec<&str> = std::iter::once(rest.lines().next().unwrap_or_default())
                .chain(rest.lines().skip(1).map_while(|line| line.trim().strip_prefix("/// ")))
                .map(str::trim)
                .collect();
            let (number, text) = lines
                .join(" ")
                .split_once(": ")
                .map(|(n, t)| (n.to_owned(), t.to_owned()))
                .expect("number: text");
            (number.parse().expect("a number"), text)
        })
        .collect()
}

#[test]
fn each_delivered_property_is_tagged_once_with_the_documents_text() {
    let document: BTreeMap<u32, &str> = DOCUMENT
        .lines()
        .map(|line| {
            let (number, text) = line.split_once(": ").expect("number: text");
            (number.parse().expect("a number"), text)
        })
        .collect();
    assert_eq!(document.keys().copied().collect::<Vec<u32>>(), (1..=35).collect::<Vec<u32>>());

    let mut tagged: Vec<(u32, String)> = SOURCES.iter().copied().flat_map(tags).collect();
    tagged.sort();
    let expected: Vec<(u32, String)> =
        DELIVERED.map(|number| (number, document[&number].to_owned())).to_vec();
    assert_eq!(tagged, expected);
}
