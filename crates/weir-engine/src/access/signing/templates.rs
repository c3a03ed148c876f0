//! What tokens allow whose issuer cannot write our claims into them.

use weir_core::Pattern;
use weir_core::topic::InvalidTopic;
use weir_store::TopicTemplates;

/// Stands for the token's subject.
const SUBJECT: &str = "{sub}";
/// Templates of each kind at most.
const MOST: usize = 32;

/// Templates that were checked.
pub(crate) struct Templates(TopicTemplates);

impl Templates {
    /// Checks templates when they are configured.
    ///
    /// # Errors
    /// In words, naming the template.
    pub(crate) fn check(templates: &TopicTemplates) -> Result<(), String> {
        for (name, list) in [("subscribe", &templates.subscribe), ("publish", &templates.publish)] {
            if list.len() > MOST {
                return Err(format!("`{name}` has {} patterns; the limit is {MOST}", list.len()));
            }
            for template in list {
                expand(template, "x")
                    .map_err(|error| format!("the pattern `{template}` of `{name}`: {error}"))?;
            }
        }
        Ok(())
    }

    pub(crate) const fn new(templates: TopicTemplates) -> Self {
        Self(templates)
    }

    /// What a token with this subject may subscribe to, and publish to.
    ///
    /// # Errors
    /// In words, when the subject is not one token of a topic, or missing where it is needed.
    pub(crate) fn expand(&self, sub: Option<&str>) -> Result<(Vec<Pattern>, Vec<Pattern>), String> {
        let all = |list: &[String]| {
            list.iter().map(|template| for_subject(template, sub)).collect::<Result<_, _>>()
        };
        Ok((all(&self.0.subscribe)?, all(&self.0.publish)?))
    }
}

fn for_subject(template: &str, sub: Option<&str>) -> Result<Pattern, String> {
    if !template.contains(SUBJECT) {
        return expand(template, "").map_err(|error| error.to_string());
    }
    let sub = sub.ok_or("it has no `sub`, which its topics are named after")?;
    // A dot would make more tokens of it, a wildcard would select other users' topics.
    if sub.contains(['.', '*', '>']) || sub.parse::<Pattern>().is_err() {
        return Err("its `sub` is not usable in a topic: only A-Z a-z 0-9 _ - = @ , ; : are".into());
    }
    expand(template, sub).map_err(|error| format!("its `sub` makes no topic: {error}"))
}

fn expand(template: &str, sub: &str) -> Result<Pattern, InvalidTopic> {
    template.replace(SUBJECT, sub).parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(subscribe: &[&str]) -> TopicTemplates {
        TopicTemplates {
            subscribe: subscribe.iter().map(|text| (*text).to_owned()).collect(),
            publish: vec!["in.{sub}".into()],
        }
    }

    #[test]
    fn the_subject_becomes_one_token_or_nothing() {
        let checked = Templates::new(templates(&["user.{sub}.>", "room-{sub}", "news.*"]));
        let (subscribe, publish) = checked.expand(Some("u:1@x")).expect("a plain subject");
        let texts = |patterns: &[Pattern]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&subscribe), ["user.u:1@x.>", "room-u:1@x", "news.*"]);
        assert_eq!(texts(&publish), ["in.u:1@x"]);
        for bad in [">", "*", "a.b", "", "a b", "auth0|7", "ü", "{sub}", &"x".repeat(200)] {
            assert!(checked.expand(Some(bad)).is_err(), "{bad}");
        }
        assert!(checked.expand(None).is_err());
        let fixed = Templates::new(TopicTemplates { subscribe: vec!["news.>".into()], publish: Vec::new() });
        assert!(fixed.expand(None).is_ok() && fixed.expand(Some("auth0|7")).is_ok());
    }

    #[test]
    fn templates_are_checked_when_they_are_made() {
        assert!(Templates::check(&templates(&["user.{sub}.>"])).is_ok());
        for bad in ["", "a..{sub}", "user.{id}.>", "{sub}.>.x", "a b"] {
            assert!(Templates::check(&templates(&[bad])).is_err(), "{bad}");
        }
        assert!(Templates::check(&templates(&["a"; 33])).is_err());
    }
}
