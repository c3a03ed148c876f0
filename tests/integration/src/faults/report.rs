//! What a scenario found.

use serde_json::{Map, Value, json};
use std::fs;
use std::path::PathBuf;

/// The outcome of a scenario on one backend.
#[derive(Debug, Default)]
pub struct Report {
    scenario: &'static str,
    backend: &'static str,
    /// How often the fault happened.
    pub cycles: usize,
    /// Events that were acknowledged.
    pub acked: usize,
    /// Of them: not in the log at the place that was told.
    pub lost: usize,
    /// Events that are in the log twice, or came to one reader twice.
    pub duplicated: usize,
    /// Events that came, or stand in the log, before one that was published earlier by the same publisher; and events that
    /// came out of the log's order.
    pub reordered: usize,
    /// Events that a reader was not given, and not told of.
    pub undeclared_gaps: usize,
    facts: Map<String, Value>,
}

impl Report {
    /// Nothing found so far.
    pub fn new(scenario: &'static str, backend: &'static str) -> Self {
        Self { scenario, backend, ..Self::default() }
    }

    /// Something else worth knowing.
    pub fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    fn write(&self) {
        let report = json!({
            "scenario": self.scenario, "backend": self.backend, "cycles": self.cycles, "acked": self.acked,
            "lost": self.lost, "duplicated": self.duplicated, "reordered": self.reordered,
            "undeclared_gaps": self.undeclared_gaps, "facts": self.facts,
        });
        println!("{report}");
        let folder = folder();
        let file = folder.join(format!("{}-{}.json", self.scenario, self.backend));
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&file, format!("{report:#}\n")))
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Writes it, and fails unless all is as it must be.
    pub fn conclude(self) {
        self.write();
        let found = (self.lost, self.duplicated, self.reordered, self.undeclared_gaps);
        assert_eq!(found, (0, 0, 0, 0), "lost, duplicated, reordered, undeclared gaps: {self:?}");
        assert!(self.acked > self.cycles, "too little happened to show anything: {self:?}");
    }

    /// Writes that of a control run, in which something must be lost.
    pub fn conclude_control(self) {
        self.write();
        assert!(self.lost > 0, "the control run lost nothing: this scenario cannot show a loss: {self:?}");
    }
}

/// `<target>/faults`: the test's own executable is `<target>/<profile>/deps/<name>-<hash>`.
fn folder() -> PathBuf {
    let executable = std::env::current_exe().expect("a running test has an executable");
    executable.ancestors().nth(3).expect("tests run from the target folder").join("faults")
}
