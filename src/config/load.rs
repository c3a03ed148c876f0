//! Gathers the settings from their sources, one value at a time, so that every wrong one is reported
//! by its own name and all of them at once.

use super::{Config, Problem, Problems};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where `weir.toml` is looked for when no path is given.
const PLACES: [&str; 2] = ["weir.toml", "/etc/weir/weir.toml"];

/// Variables of other parts of the program that start like a setting.
const NOT_SETTINGS: [&str; 4] = ["WEIR_CONFIG", "WEIR_READY_FILE", "WEIR_URL", "WEIR_API_KEY"];

/// The longest value that is taken from a file, in bytes.
const VALUE_FILE_BYTES: u64 = 64 << 10;

/// The settings and where they came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings, valid.
    pub config: Config,
    /// The `weir.toml` that was read.
    pub file: Option<PathBuf>,
    /// What is allowed but probably not meant, to be logged. Holds no values.
    pub warnings: Vec<String>,
}

/// Reads the settings: defaults, then `path` or the first `weir.toml` found, then the environment.
///
/// # Errors
/// Everything that is wrong with them.
pub fn load(path: Option<&Path>) -> Result<Loaded, Problems> {
    let file =
        path.map(Path::to_path_buf).or_else(|| PLACES.map(PathBuf::from).into_iter().find(|p| p.exists()));
    gather(file, std::env::vars_os())
}

fn gather(
    file: Option<PathBuf>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Problems> {
    let mut gathering = Gathering::new();
    if let Some(path) = &file {
        gathering.take_file(path);
    }
    gathering.take_environment(environment);
    let Gathering { config, mut problems, mut warnings, .. } = gathering;
    problems.extend(config.validate());
    warnings.extend(config.warnings());
    if problems.is_empty() { Ok(Loaded { config, file, warnings }) } else { Err(Problems(problems)) }
}

/// Every setting as `a.b` with the JSON form of its default, which tells its type. Taken from the
/// struct itself, so there is no list to forget.
fn settings() -> BTreeMap<String, serde_json::Value> {
    fn flatten(prefix: &str, value: serde_json::Value, into: &mut BTreeMap<String, serde_json::Value>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                    flatten(&path, value, into);
                }
            }
            leaf => {
                into.insert(prefix.to_owned(), leaf);
            }
        }
    }
    let mut settings = BTreeMap::new();
    flatten("", serde_json::to_value(Config::default()).unwrap_or_default(), &mut settings);
    settings
}

/// The environment variable of a setting: `WEIR_A_B` for `a.b`.
fn variable(setting: &str) -> String {
    format!("WEIR_{}", setting.replace('.', "_").to_ascii_uppercase())
}

struct Gathering {
    settings: BTreeMap<String, serde_json::Value>,
    /// What was set so far and is well formed; `config` is this on top of the defaults.
    table: toml::Table,
    config: Config,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Gathering {
    fn new() -> Self {
        Self {
            settings: settings(),
            table: toml::Table::new(),
            config: Config::default(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn problem(&mut self, setting: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { setting: setting.into(), message: message.into() });
    }

    /// Sets one value, or reports it under `name`: the path in the file, the variable's name.
    fn set(&mut self, setting: &str, value: toml::Value, name: &str) {
        let Some(default) = self.settings.get(setting) else { return };
        let complaint = |why: &str| match default {
            // Secrets have no default, and their values are not repeated.
            serde_json::Value::Null => why.to_owned(),
            default => format!("{} is wrong, {why}; the default is {default}", shown(&value)),
        };
        if let Some(wanted) = misfit(&value, default) {
            let message = complaint(wanted);
            return self.problem(name, message);
        }
        let mut table = self.table.clone();
        insert(&mut table, setting, value.clone());
        match Config::deserialize(table.clone()) {
            Ok(config) => (self.config, self.table) = (config, table),
            Err(error) => {
                let message = complaint(error.message());
                self.problem(name, message);
            }
        }
    }

    fn take_file(&mut self, path: &Path) {
        let shown = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problem(shown, format!("cannot be read: {error}")),
        };
        let table: toml::Table = match toml::from_str(&text) {
            Ok(table) => table,
            Err(error) => {
                // Not the error's own display: it quotes the line, which may hold a secret.
                let before = error.span().map_or(0, |span| span.start);
                let line = 1 + text.bytes().take(before).filter(|byte| *byte == b'\n').count();
                return self.problem(shown, format!("line {line} is not TOML: {}", error.message()));
            }
        };
        for (name, value) in table {
            match value {
                toml::Value::Table(fields) => {
                    for (field, value) in fields {
                        self.take_from_file(&shown, &format!("{name}.{field}"), value);
                    }
                }
                value => self.take_from_file(&shown, &name, value),
            }
        }
    }

    fn take_from_file(&mut self, file: &str, setting: &str, value: toml::Value) {
        if self.settings.contains_key(setting) {
            return self.set(setting, value, &format!("{setting} in {file}"));
        }
        let nearest = nearest(setting, self.settings.keys().map(String::as_str), usize::MAX);
        let hint = nearest.map_or_else(String::new, |near| format!("; the nearest one is `{near}`"));
        self.problem(format!("{setting} in {file}"), format!("there is no such setting{hint}"));
    }

    fn take_environment(&mut self, environment: impl IntoIterator<Item = (OsString, OsString)>) {
        let mut given: BTreeMap<String, OsString> = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with("WEIR_") && !name.starts_with("WEIR_TEST_"))
            .filter(|(name, _)| !NOT_SETTINGS.contains(&name.as_str()))
            .collect();
        let variables: Vec<_> = self
            .settings
            .iter()
            .map(|(setting, default)| (variable(setting), setting.clone(), default.clone()))
            .collect();
        for (name, setting, default) in &variables {
            if let Some(value) = given.remove(name) {
                match value.into_string() {
                    Ok(text) => self.set_text(setting, default, &text, name),
                    Err(_) => self.problem(name, "the value is not UTF-8"),
                }
                if given.remove(&format!("{name}_FILE")).is_some() {
                    self.problem(name, format!("{name}_FILE is set too: set one of the two"));
                }
            } else if let Some(path) = given.remove(&format!("{name}_FILE")) {
                match read_value(Path::new(&path)) {
                    Ok(text) => self.set_text(setting, default, &text, &format!("{name}_FILE")),
                    Err(why) => {
                        self.problem(format!("{name}_FILE"), format!("{}: {why}", Path::new(&path).display()))
                    }
                }
            }
        }
        for name in given.into_keys() {
            // Only near misses: orchestrators put names of their own such as WEIR_SERVICE_HOST there.
            let plain = name.strip_suffix("_FILE").unwrap_or(&name);
            if let Some(near) = nearest(plain, variables.iter().map(|(known, ..)| known.as_str()), 2) {
                self.warnings.push(format!("{name} is not a setting and has no effect; is {near} meant?"));
            }
        }
    }

    /// Sets a value that came as text, read as the default's type.
    fn set_text(&mut self, setting: &str, default: &serde_json::Value, text: &str, name: &str) {
        let value = match default {
            serde_json::Value::Bool(_) => text.parse().ok().map(toml::Value::Boolean),
            serde_json::Value::Number(_) => text.parse().ok().map(toml::Value::Integer),
            _ => None,
        };
        self.set(setting, value.unwrap_or_else(|| toml::Value::String(text.to_owned())), name);
    }
}

/// What a value must be when it is not of the default's type.
fn misfit(value: &toml::Value, default: &serde_json::Value) -> Option<&'static str> {
    match (default, value) {
        (serde_json::Value::Number(_), toml::Value::Integer(0..=0xffff_ffff)) => None,
        (serde_json::Value::Number(_), _) => Some("it must be a whole number from 0 to 4294967295"),
        (serde_json::Value::Bool(_), value) if !value.is_bool() => Some("it must be true or false"),
        _ => None,
    }
}

/// Puts a value into its section, which is made if need be.
fn insert(table: &mut toml::Table, setting: &str, value: toml::Value) {
    match setting.split_once('.') {
        None => drop(table.insert(setting.to_owned(), value)),
        Some((section, field)) => {
            let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
            if let toml::Value::Table(section) = section {
                section.insert(field.to_owned(), value);
            }
        }
    }
}

/// A value as part of a sentence.
fn shown(value: &toml::Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    format!("`{}`", text.chars().take(40).collect::<String>())
}

/// The content of a file without surrounding white space.
fn read_value(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut text = String::new();
    let read = file.take(VALUE_FILE_BYTES + 1).read_to_string(&mut text);
    match read.map_err(|error| format!("cannot be read: {error}"))? {
        0..=65_536 => Ok(text.trim().to_owned()),
        _ => Err(format!("is longer than {VALUE_FILE_BYTES} bytes, which no value is")),
    }
}

/// The known name that differs from `name` by the fewest edits, if those are at most `most`.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>, most: usize) -> Option<&'a str> {
    known
        .map(|known| (edits(name, known), known))
        .min()
        .filter(|(edits, _)| *edits <= most)
        .map(|(_, known)| known)
}

/// How many bytes must be added, dropped or changed to make one name of the other.
fn edits(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
