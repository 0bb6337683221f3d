//! `${VAR}` and `${VAR:-default}` in string values.
//!
//! Only after parsing: what a variable holds can never become a key or another value.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Diagnostic;

/// Looks an environment variable up; `None` when it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Fills in every variable of every string value.
pub(super) fn substitute(table: &mut DeTable<'_>, lookup: Lookup<'_>, found: &mut Vec<Diagnostic>) {
    for (_, value) in table.iter_mut() {
        substitute_value(value, lookup, found);
    }
}

fn substitute_value(
    value: &mut Spanned<DeValue<'_>>,
    lookup: Lookup<'_>,
    found: &mut Vec<Diagnostic>,
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) => {
            if !text.contains('$') {
                return;
            }
            match expand(text, lookup) {
                Ok(expanded) => *text = expanded.into(),
                Err((message, help)) => {
                    found.push(Diagnostic::at(span, message).help(help));
                }
            }
        }
        DeValue::Array(values) => {
            for value in values.iter_mut() {
                substitute_value(value, lookup, found);
            }
        }
        DeValue::Table(table) => substitute(table, lookup, found),
        _ => {}
    }
}

fn expand(text: &str, lookup: Lookup<'_>) -> Result<String, (String, String)> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        // `$${` is a literal `${`; a lone `$` is itself.
        if let Some(after) = rest.strip_prefix("$${") {
            expanded.push_str("${");
            rest = after;
            continue;
        }
        let Some(inner) = rest.strip_prefix("${") else {
            expanded.push('$');
            rest = &rest[1..];
            continue;
        };
        let Some((inner, after)) = inner.split_once('}') else {
            let help = "close it with `}`, or write `$${` for a literal `${`";
            return Err(("a variable is not closed".to_owned(), help.to_owned()));
        };
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let well_formed = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.starts_with(|c: char| !c.is_ascii_digit());
        if !well_formed {
            let help = "variables are letters, digits and `_`: ${NAME} or ${NAME:-default}";
            return Err((format!("`{name}` is not a variable's name"), help.to_owned()));
        }
        // As in the shell, `:-` also stands in for an empty value.
        let value = lookup(name).filter(|value| default.is_none() || !value.is_empty());
        let Some(value) = value.as_deref().or(default) else {
            let help = format!("set it, or write ${{{name}:-default}}");
            return Err((format!("the variable `{name}` is not set"), help));
        };
        expanded.push_str(value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, (String, String)> {
        expand(text, &|name| match name {
            "HOST" => Some("kitchen".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST}\"\nport = 1".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn variables_and_defaults_are_filled_in() {
        assert_eq!(expanded("${HOST}:49000").as_deref(), Ok("kitchen:49000"));
        assert_eq!(expanded("${NONE:-den}").as_deref(), Ok("den"));
        assert_eq!(expanded("${EMPTY:-den}${EMPTY}").as_deref(), Ok("den"));
        assert_eq!(expanded("a $ b $${HOST}").as_deref(), Ok("a $ b ${HOST}"));
    }

    #[test]
    fn what_a_variable_holds_is_never_read_again() {
        assert_eq!(expanded("${TRICK}").as_deref(), Ok("${HOST}\"\nport = 1"));
    }

    #[test]
    fn unset_unclosed_and_odd_variables_are_refused() {
        assert!(expanded("${NONE}").unwrap_err().0.contains("`NONE` is not set"));
        assert!(expanded("${HOST").unwrap_err().0.contains("not closed"));
        assert!(expanded("${A B}").unwrap_err().0.contains("not a variable's name"));
        assert!(expanded("${}").unwrap_err().0.contains("not a variable's name"));
    }
}
