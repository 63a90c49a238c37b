//! Label selectors (in both their forms) and field selectors.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names;

/// The structured form, as it stands in specs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that must have exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further conditions, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One condition of a [`LabelSelector`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LabelSelectorRequirement {
    /// The label.
    #[serde(default)]
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    #[serde(default)]
    pub operator: String,
    /// What the operator compares with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// Why a selector is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The text form cannot be read.
    #[error("{0}")]
    Syntax(String),
    /// A key or value is not one a label can have.
    #[error("{0}")]
    Invalid(String),
}

/// What a condition asks of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Greater(i64),
    Less(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
    /// Written as `k=v` or `k!=v` rather than as a set.
    plain: bool,
}

/// A selector ready to match labels: all its conditions must hold; one without conditions matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// A selector that asks for exactly these labels.
    #[must_use]
    pub fn from_labels(match_labels: BTreeMap<String, String>) -> Self {
        Self { match_labels, match_expressions: Vec::new() }
    }

    /// Makes it ready to match. An empty one matches everything.
    pub fn compile(&self) -> Result<Selector, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in &self.match_labels {
            requirements.push(Requirement::new(key, Test::In(vec![value.clone()]), true)?);
        }
        for expression in &self.match_expressions {
            let test = match expression.operator.as_str() {
                "In" => Test::In(expression.values.clone()),
                "NotIn" => Test::NotIn(expression.values.clone()),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::DoesNotExist,
                other => {
                    return Err(SelectorError::Invalid(format!(
                        "{} is not a valid label selector operator",
                        crate::field::quote(other)
                    )));
                }
            };
            if matches!(test, Test::Exists | Test::DoesNotExist) && !expression.values.is_empty() {
                return Err(SelectorError::Invalid(
                    "values: Invalid value: values set must be empty for exists and does not exist"
                        .to_owned(),
                ));
            }
            requirements.push(Requirement::new(&expression.key, test, false)?);
        }
        Ok(Selector::of(requirements))
    }
}

impl Requirement {
    fn new(key: &str, test: Test, plain: bool) -> Result<Self, SelectorError> {
        let complain = |at: &str, value: &str, errors: Vec<String>| match errors.is_empty() {
            true => Ok(()),
            false => Err(SelectorError::Invalid(format!(
                "{at}: Invalid value: {}: {}",
                crate::field::quote(value),
                errors.join("; ")
            ))),
        };
        complain("key", key, names::qualified_name(key))?;
        if let Test::In(values) | Test::NotIn(values) = &test {
            if values.is_empty() {
                return Err(SelectorError::Invalid(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
                        .to_owned(),
                ));
            }
            for (index, value) in values.iter().enumerate() {
                complain(&format!("values[{index}][{key}]"), value, names::label_value(value))?;
            }
        }
        Ok(Self { key: key.to_owned(), test, plain })
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|v| v != value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Greater(than) => number().is_some_and(|n| n > *than),
            Test::Less(than) => number().is_some_and(|n| n < *than),
        }
    }
}

impl Selector {
    fn of(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }

    /// Matches every object.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches no object: what an absent selector in a spec means.
    #[must_use]
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Asks for exactly these labels, unchecked: they stand on an object already.
    #[must_use]
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let requirement = |(key, value): (&str, &str)| Requirement {
            key: key.to_owned(),
            test: Test::In(vec![value.to_owned()]),
            plain: true,
        };
        Self::of(labels.into_iter().map(requirement).collect())
    }

    /// Reads the text form: `a=b,c in (x,y),!d,e notin (f),g>1`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        let requirements = parser.requirements().map_err(|error| match error {
            SelectorError::Syntax(reason) => {
                SelectorError::Syntax(format!("unable to parse requirement: {reason}"))
            }
            invalid @ SelectorError::Invalid(_) => invalid,
        })?;
        Ok(Self::of(requirements))
    }

    /// Whether an object with these labels is selected; `label` gives the value of a key.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing
            && self.requirements.iter().all(|requirement| requirement.holds(label(&requirement.key)))
    }

    /// Whether labels in a map are selected.
    #[must_use]
    pub fn matches_map(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches(|key| labels.get(key).map(String::as_str))
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Requirement { key, test, plain }) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let sorted = |values: &[String]| {
                let mut values = values.to_vec();
                values.sort();
                values.join(",")
            };
            match test {
                Test::In(values) if *plain => write!(f, "{key}={}", values.join(","))?,
                Test::NotIn(values) if *plain => write!(f, "{key}!={}", values.join(","))?,
                Test::In(values) => write!(f, "{key} in ({})", sorted(values))?,
                Test::NotIn(values) => write!(f, "{key} notin ({})", sorted(values))?,
                Test::Exists => f.write_str(key)?,
                Test::DoesNotExist => write!(f, "!{key}")?,
                Test::Greater(than) => write!(f, "{key}>{than}")?,
                Test::Less(than) => write!(f, "{key}<{than}")?,
            }
        }
        Ok(())
    }
}

const SYMBOLS: &str = "=!(),<>";

/// Words and operators; blanks only separate.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if SYMBOLS.contains(first) {
            if rest.starts_with("==") || rest.starts_with("!=") { 2 } else { 1 }
        } else {
            rest.find(|c: char| c.is_whitespace() || SYMBOLS.contains(c)).unwrap_or(rest.len())
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    tokens
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        let token = self.peek().to_owned();
        self.at += 1;
        token
    }

    fn expected<T>(found: &str, what: &str) -> Result<T, SelectorError> {
        Err(SelectorError::Syntax(format!("found '{found}', expected: {what}")))
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut found = Vec::new();
        if self.peek().is_empty() {
            return Ok(found);
        }
        loop {
            found.push(self.requirement()?);
            match self.next().as_str() {
                "" => return Ok(found),
                "," if is_word(self.peek()) || self.peek() == "!" => {}
                "," => return Self::expected(self.peek(), "identifier after ','"),
                other => return Self::expected(other, "',' or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.peek() == "!" {
            self.next();
            let key = self.word()?;
            return Requirement::new(&key, Test::DoesNotExist, false);
        }
        let key = self.word()?;
        if matches!(self.peek(), "" | ",") {
            return Requirement::new(&key, Test::Exists, false);
        }
        match self.next().as_str() {
            "=" | "==" => {
                let value = self.value()?;
                Requirement::new(&key, Test::In(vec![value]), true)
            }
            "!=" => {
                let value = self.value()?;
                Requirement::new(&key, Test::NotIn(vec![value]), true)
            }
            "in" => {
                let values = self.values()?;
                Requirement::new(&key, Test::In(values), false)
            }
            "notin" => {
                let values = self.values()?;
                Requirement::new(&key, Test::NotIn(values), false)
            }
            sign @ (">" | "<") => {
                let value = self.value()?;
                let number = value.parse().map_err(|_| {
                    SelectorError::Invalid(format!(
                        "values[0]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                        crate::field::quote(&value)
                    ))
                })?;
                let test = if sign == ">" { Test::Greater(number) } else { Test::Less(number) };
                Requirement::new(&key, test, false)
            }
            other => Self::expected(other, "in, notin, =, ==, !=, gt, lt"),
        }
    }

    fn word(&mut self) -> Result<String, SelectorError> {
        let token = self.next();
        if is_word(&token) { Ok(token) } else { Self::expected(&token, "identifier") }
    }

    /// A value may be missing: `a=` asks for the empty one.
    fn value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            "" | "," => Ok(String::new()),
            token if is_word(token) => Ok(self.next()),
            other => Self::expected(other, "identifier"),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        match self.next().as_str() {
            "(" => {}
            other => {
                return Err(SelectorError::Syntax(format!("found '{other}' expected: '('")));
            }
        }
        let mut values = Vec::new();
        loop {
            let value = match self.peek() {
                "," | ")" => String::new(),
                token if is_word(token) => self.next(),
                other => return Self::expected(other, "',', ')' or identifier"),
            };
            if !values.contains(&value) {
                values.push(value);
            }
            match self.next().as_str() {
                "," => {}
                ")" => return Ok(values),
                other => return Self::expected(other, "',' or ')'"),
            }
        }
    }
}

fn is_word(token: &str) -> bool {
    token.chars().next().is_some_and(|c| !SYMBOLS.contains(c))
}

/// One condition of a field selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field, e.g. `spec.nodeName`.
    pub field: String,
    /// What it is compared with.
    pub value: String,
    /// Whether it must be equal, or must not.
    pub equal: bool,
}

/// Conditions on fields, all of which must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    /// The conditions.
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Reads `metadata.name=x,status.phase!=Running`; backslash escapes `,`, `=` and itself in values.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for term in split_terms(text).into_iter().filter(|term| !term.is_empty()) {
            let bad =
                || SelectorError::Syntax(format!("invalid selector: '{text}'; can't understand '{term}'"));
            let at = term.find(['=', '!']).ok_or_else(bad)?;
            let (field, rest) = term.split_at(at);
            let (equal, value) = [("!=", false), ("==", true), ("=", true)]
                .into_iter()
                .find_map(|(sign, equal)| Some((equal, rest.strip_prefix(sign)?)))
                .ok_or_else(bad)?;
            let value = unescape(value).ok_or_else(bad)?;
            requirements.push(FieldRequirement { field: field.to_owned(), value, equal });
        }
        Ok(Self { requirements })
    }

    /// Whether an object with these fields is selected; `field` gives a field's value, empty when absent.
    pub fn matches(&self, field: impl Fn(&str) -> String) -> bool {
        self.requirements.iter().all(|r| (field(&r.field) == r.value) == r.equal)
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that `field` must have, when one is asked for.
    #[must_use]
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }
}

/// Splits at commas that are not escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| ",=\\".contains(*c))?),
            '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `labels` as `k=v k=v`.
    fn check(selector: &str, labels: &str, expected: bool) {
        let labels: BTreeMap<_, _> = labels.split_whitespace().filter_map(|kv| kv.split_once('=')).collect();
        let selector = Selector::parse(selector).unwrap();
        assert_eq!(selector.matches(|key| labels.get(key).copied()), expected, "{selector} on {labels:?}");
    }

    #[test]
    fn matching() {
        check("", "a=b", true);
        check("a=b", "a=b", true);
        check("a==b", "a=c", false);
        check("a!=b", "a=c", true);
        check("a!=b", "", true);
        check("a", "a=", true);
        check("!a", "a=x", false);
        check("!a", "b=x", true);
        check("a in (x,y)", "a=y", true);
        check("a in (x, y)", "a=z", false);
        check("a notin (x)", "a=x", false);
        check("a notin (x)", "", true);
        check("a=b,c in (x,y),!d,e notin (f)", "a=b c=x e=g", true);
        check("a=b,c in (x,y),!d,e notin (f)", "a=b c=x d=1", false);
        check("a>5", "a=6", true);
        check("a<5", "a=6", false);
        check("a=", "a=", true);
        check("x.io/a=1 , b", "x.io/a=1 b=2", true);
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, error) in [
            ("a=b,", "unable to parse requirement: found '', expected: identifier after ','"),
            ("a in x", "unable to parse requirement: found 'x' expected: '('"),
            ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("=b", "unable to parse requirement: found '=', expected: identifier"),
            ("a=b=c", "unable to parse requirement: found '=', expected: ',' or 'end of string'"),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err().to_string(), error, "{text}");
        }
        assert!(
            Selector::parse("a/b/c=d")
                .unwrap_err()
                .to_string()
                .starts_with("key: Invalid value: \"a/b/c\": ")
        );
        assert!(Selector::parse("a=-").is_err());
    }

    #[test]
    fn structured_form() {
        let selector: LabelSelector = serde_json::from_str(
            r#"{"matchLabels":{"app":"web"},"matchExpressions":[{"key":"t","operator":"In","values":["b","a"]},
               {"key":"x","operator":"DoesNotExist"}]}"#,
        )
        .unwrap();
        let compiled = selector.compile().unwrap();
        assert_eq!(compiled.to_string(), "app=web,t in (a,b),!x");
        assert!(compiled.matches(|key| match key {
            "app" => Some("web"),
            "t" => Some("a"),
            _ => None,
        }));
        assert!(LabelSelector::default().compile().unwrap().is_empty());
        assert!(!Selector::nothing().matches(|_| Some("x")));
        let bad = LabelSelectorRequirement { key: "a".into(), operator: "Like".into(), values: vec![] };
        let bad = LabelSelector { match_expressions: vec![bad], ..LabelSelector::default() };
        assert_eq!(bad.compile().unwrap_err().to_string(), "\"Like\" is not a valid label selector operator");
    }

    #[test]
    fn field_selectors() {
        let selector = FieldSelector::parse("metadata.name=x,status.phase!=Running").unwrap();
        assert_eq!(selector.exact("metadata.name"), Some("x"));
        assert_eq!(selector.exact("status.phase"), None);
        assert!(selector.matches(|f| if f == "metadata.name" { "x".into() } else { String::new() }));
        assert!(!selector.matches(|f| if f == "metadata.name" { "x".into() } else { "Running".into() }));
        assert_eq!(FieldSelector::parse(r"a=x\,y\=z").unwrap().exact("a"), Some("x,y=z"));
        assert!(FieldSelector::parse("").unwrap().is_empty());
        assert_eq!(
            FieldSelector::parse("abc").unwrap_err().to_string(),
            "invalid selector: 'abc'; can't understand 'abc'"
        );
    }

    proptest! {
        #[test]
        fn text_reads_back(text in "[a-c]{1,2}(=[a-c]?|!=[a-c]| in \\([a-c](,[a-c])?\\)| notin \\([a-c]\\)|>[1-9])?(,!?[d-f]){0,2}") {
            let selector = Selector::parse(&text).unwrap();
            let again = Selector::parse(&selector.to_string()).unwrap();
            prop_assert_eq!(again.to_string(), selector.to_string());
        }

        #[test]
        fn nothing_panics(text in "[-a-c/=!(),<> inot\\\\]{0,30}") {
            let _ = Selector::parse(&text);
            let _ = FieldSelector::parse(&text);
        }
    }
}
