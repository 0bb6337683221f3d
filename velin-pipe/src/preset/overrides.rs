//! `--set key=value`: the last word on any value of a preset.
//!
//! `receive.port=0`, `send.to=kitchen` (where there is one `[[send]]`), `capture.1.volume=0.5`.
//! The right side is read as TOML, and as plain text where it is none.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::diagnostic::{Diagnostic, Span};

/// Puts one override into `table`; `start` is where the spans of `text` begin.
pub(super) fn apply<'i>(
    table: &mut DeTable<'i>,
    text: &'i str,
    start: usize,
) -> Result<(), Diagnostic> {
    let Some(equals) = text.find('=') else {
        return Err(Diagnostic::at(start..start + text.len(), "there is no `=`")
            .help("write --set KEY=VALUE, for example --set receive.port=0"));
    };
    let path = key_path(&text[..equals], start)?;
    let value_start = start + equals + 1;
    let value = &text[equals + 1..];
    let value = match DeValue::parse(value) {
        Ok(value) => moved(value, value_start),
        Err(_) => Spanned::new(
            value_start..value_start + value.len(),
            DeValue::String(Cow::Borrowed(value)),
        ),
    };
    insert(table, &path, value)
}

type Key<'i> = Spanned<Cow<'i, str>>;

fn key_path(text: &str, start: usize) -> Result<Vec<Key<'_>>, Diagnostic> {
    let mut at = 0;
    let mut path = Vec::new();
    for segment in text.split('.') {
        let span = start + at..start + at + segment.len();
        at += segment.len() + 1;
        let name = segment.trim();
        if name.is_empty() {
            return Err(Diagnostic::at(span, "a part of the key is missing")
                .help("write --set KEY=VALUE, for example --set receive.port=0"));
        }
        path.push(Spanned::new(span, Cow::Borrowed(name)));
    }
    Ok(path)
}

/// The same value with all of its spans `by` bytes later.
fn moved(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = shifted(value.span(), by);
    let value = match value.into_inner() {
        DeValue::Array(values) => DeValue::Array(
            values.into_iter().map(|value| moved(value, by)).collect::<DeArray<'_>>(),
        ),
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, value)| {
                    let span = shifted(key.span(), by);
                    (Spanned::new(span, key.into_inner()), moved(value, by))
                })
                .collect(),
        ),
        other => other,
    };
    Spanned::new(span, value)
}

fn shifted(span: Span, by: usize) -> Span {
    span.start + by..span.end + by
}

fn insert<'i>(
    table: &mut DeTable<'i>,
    path: &[Key<'i>],
    value: Spanned<DeValue<'i>>,
) -> Result<(), Diagnostic> {
    let Some((key, rest)) = path.split_first() else { return Ok(()) };
    if rest.is_empty() {
        // The new key goes in with the new value: an error must point at the override.
        table.remove(key.get_ref().as_ref());
        table.insert(key.clone(), value);
        return Ok(());
    }
    if !table.contains_key(key.get_ref().as_ref()) {
        // `playback.0.kind` makes the list, `receive.port` the table.
        let container = if rest[0].get_ref().parse::<usize>().is_ok() {
            DeValue::Array(DeArray::new())
        } else {
            DeValue::Table(DeTable::new())
        };
        table.insert(key.clone(), Spanned::new(key.span(), container));
    }
    let Some(inner) = table.get_mut(key.get_ref().as_ref()) else { return Ok(()) };
    match inner.get_mut() {
        DeValue::Table(inner) => insert(inner, rest, value),
        DeValue::Array(list) => insert_into_list(list, key, rest, value),
        _ => {
            Err(Diagnostic::at(key.span(), format!("`{}` is a value, not a table", key.get_ref()))
                .help("leave out what follows the dot"))
        }
    }
}

fn insert_into_list<'i>(
    list: &mut DeArray<'i>,
    name: &Key<'i>,
    path: &[Key<'i>],
    value: Spanned<DeValue<'i>>,
) -> Result<(), Diagnostic> {
    let (index, rest) = match path.split_first() {
        Some((first, rest)) if first.get_ref().parse::<usize>().is_ok() => {
            (first.get_ref().parse::<usize>().unwrap_or_default(), rest)
        }
        // Where there is only one entry, it needs no number.
        _ if list.len() == 1 => (0, path),
        _ => {
            let name = name.get_ref();
            let message = format!("there are {} entries `{name}`", list.len());
            let last = list.len().saturating_sub(1);
            return Err(Diagnostic::at(path[0].span(), message)
                .help(format!("say which: {name}.0 to {name}.{last}")));
        }
    };
    if index > list.len() {
        let message = format!("there is no entry {index}, only {}", list.len());
        return Err(Diagnostic::at(path[0].span(), message)
            .help(format!("the next one would be {}", list.len())));
    }
    if index == list.len() {
        let container = if rest.is_empty() { value.clone() } else { empty_table(&path[0]) };
        list.push(container);
    }
    let Some(entry) = list.get_mut(index) else { return Ok(()) };
    if rest.is_empty() {
        *entry = value;
        return Ok(());
    }
    match entry.get_mut() {
        DeValue::Table(table) => insert(table, rest, value),
        _ => Err(Diagnostic::at(path[0].span(), "this entry is a value, not a table")
            .help("leave out what follows the dot")),
    }
}

fn empty_table<'i>(key: &Key<'i>) -> Spanned<DeValue<'i>> {
    Spanned::new(key.span(), DeValue::Table(DeTable::new()))
}
