//! The config as typed: TOML of which every key has a place, read section by section while all problems are collected.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use toml_edit::{Array, Document, Item, TableLike, Value};

use super::errors::{Errors, Problem, unknown};

/// A kind of value: what is accepted, in words, and how it is read. The reading answers a refusal with its reason.
pub(super) struct Kind<T> {
    pub(super) accepted: &'static str,
    pub(super) read: fn(&Value) -> Result<T, String>,
}

/// A config file as typed.
pub(super) struct File<'t> {
    name: &'t str,
    text: &'t str,
    document: Document<&'t str>,
    /// Byte offset of each key and list element by its path.
    places: BTreeMap<String, usize>,
    problems: RefCell<Vec<Problem>>,
    /// Problems beyond [`TOLD`].
    more: Cell<usize>,
}

/// Problems that are told of one file: nobody mends more in one go, and each costs a look for its place.
const TOLD: usize = 500;

impl<'t> File<'t> {
    /// Reads TOML; the first error of syntax is the only one that can be told.
    pub(super) fn parse(text: &'t str, name: &'t str) -> Result<Self, Errors> {
        let document = Document::parse(text).map_err(|error| {
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            let message = format!("this is not TOML: {message}");
            Errors::new(name, vec![Problem { line, column, key: String::new(), message }])
        })?;
        let mut places = BTreeMap::new();
        note_places(&mut places, "", document.as_table());
        Ok(Self { name, text, document, places, problems: RefCell::default(), more: Cell::default() })
    }

    /// Reads the whole file as one section.
    pub(super) fn read<T>(&self, meaning: impl FnOnce(&mut Section<'_>) -> T) -> T {
        Section::read(self, Some(self.document.as_table()), String::new(), meaning)
    }

    /// Records a problem with the key of that path; where that key is absent, it stands at the section it would be in.
    pub(super) fn refuse(&self, path: &str, message: impl Into<String>) {
        if self.problems.borrow().len() >= TOLD {
            self.more.set(self.more.get().saturating_add(1));
            return;
        }
        let mut place = path;
        let offset = loop {
            if let Some(offset) = self.places.get(place) {
                break *offset;
            }
            match place.rfind(['.', '[']) {
                Some(end) => place = place.get(..end).unwrap_or_default(),
                None => break 0,
            }
        };
        let (line, column) = position(self.text, offset);
        self.problems.borrow_mut().push(Problem { line, column, key: path.to_owned(), message: message.into() });
    }

    /// Whether the file has a key of that path.
    pub(super) fn holds(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// The result, if nothing was refused.
    pub(super) fn finish<T>(self, meant: T) -> Result<T, Errors> {
        let mut problems = self.problems.into_inner();
        if self.more.get() > 0 {
            let (line, column) = position(self.text, self.text.len());
            let message = format!("{} more problems are not shown; mend these first", self.more.get());
            problems.push(Problem { line, column, key: String::new(), message });
        }
        if problems.is_empty() { Ok(meant) } else { Err(Errors::new(self.name, problems)) }
    }
}

/// One table of the file, or the absence of one: then every key is absent and all defaults hold.
pub(super) struct Section<'f> {
    file: &'f File<'f>,
    table: Option<&'f dyn TableLike>,
    path: String,
    known: Vec<&'static str>,
}

impl<'f> Section<'f> {
    /// Lets `meaning` read a table, then refuses every key that it did not ask for.
    fn read<T>(
        file: &'f File<'f>,
        table: Option<&'f dyn TableLike>,
        path: String,
        meaning: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut section = Self { file, table, path, known: Vec::new() };
        let meant = meaning(&mut section);
        for (key, _) in table.into_iter().flat_map(TableLike::iter) {
            if !section.known.contains(&key) {
                file.refuse(&join(&section.path, key), unknown("key", key, &section.known));
            }
        }
        meant
    }

    /// Whether a key is there, whatever it holds. It does not count as asked for.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Whether a key holds a table. It does not count as asked for.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.table.and_then(|table| table.get(key)).is_some_and(Item::is_table_like)
    }

    /// Whether a key holds a list without elements. It does not count as asked for.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        self.table.and_then(|table| table.get(key)).and_then(Item::as_array).is_some_and(Array::is_empty)
    }

    /// Whether something is wrong already with what a key holds or lies under it.
    pub(super) fn is_refused(&self, key: &str) -> bool {
        let path = join(&self.path, key);
        self.file.problems.borrow().iter().any(|problem| problem.key.starts_with(&path))
    }

    /// Records a problem with this table as a whole.
    pub(super) fn refuse_self(&self, message: impl Into<String>) {
        self.file.refuse(&self.path, message);
    }

    /// Records a problem with one key of this table.
    pub(super) fn refuse(&self, key: &str, message: impl Into<String>) {
        self.file.refuse(&join(&self.path, key), message);
    }

    fn item(&mut self, key: &'static str) -> Option<&'f Item> {
        self.known.push(key);
        self.table?.get(key)
    }

    /// The value of a key; `None` where it is absent or was refused.
    pub(super) fn get<T>(&mut self, key: &'static str, kind: &Kind<T>) -> Option<T> {
        let item = self.item(key)?;
        let read = match item {
            Item::Value(value) => (kind.read)(value),
            Item::None => return None,
            Item::Table(_) => Err("it is a table".to_owned()),
            Item::ArrayOfTables(_) => Err("it is a list of tables".to_owned()),
        };
        read.map_err(|reason| self.refuse(key, format!("{reason}, accepted is {}", kind.accepted))).ok()
    }

    /// The value of a key, or its default.
    pub(super) fn get_or<T>(&mut self, key: &'static str, kind: &Kind<T>, default: T) -> T {
        self.get(key, kind).unwrap_or(default)
    }

    /// The value of a key that must be there; `None` where it was refused.
    pub(super) fn need<T>(&mut self, key: &'static str, kind: &Kind<T>) -> Option<T> {
        if !self.has(key) {
            self.refuse(key, format!("it is missing, accepted is {}", kind.accepted));
        }
        self.get(key, kind)
    }

    /// A key that names one of several choices, or its default.
    pub(super) fn choose<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)], default: T) -> T {
        let Some(item) = self.item(key) else { return default };
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let Some(text) = item.as_str() else {
            let accepted = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
            self.refuse(key, format!("it is {}, accepted is {accepted}", describe_item(item)));
            return default;
        };
        let chosen = choices.iter().find(|(name, _)| *name == text);
        chosen.map_or_else(
            || {
                self.refuse(key, unknown("value", text, &names));
                default
            },
            |(_, choice)| *choice,
        )
    }

    /// A table under this one; read as an empty one where it is absent.
    pub(super) fn section<T>(&mut self, key: &'static str, meaning: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let item = self.item(key);
        let table = item.and_then(|item| self.as_table(key, item));
        Section::read(self.file, table, join(&self.path, key), meaning)
    }

    /// A table under this one; `None` where it is absent or no table.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        meaning: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        let item = self.item(key)?;
        let table = self.as_table(key, item)?;
        Section::read(self.file, Some(table), join(&self.path, key), meaning)
    }

    /// The tables under this one that have names of the writer's choice, in the order of the file.
    pub(super) fn named<T>(
        &mut self,
        key: &'static str,
        mut meaning: impl FnMut(&str, &mut Section<'_>) -> T,
    ) -> Vec<T> {
        let item = self.item(key);
        let Some(table) = item.and_then(|item| self.as_table(key, item)) else { return Vec::new() };
        let path = join(&self.path, key);
        let mut meant = Vec::new();
        for (name, item) in table.iter() {
            let path = join(&path, name);
            match item.as_table_like() {
                Some(table) => {
                    meant.push(Section::read(self.file, Some(table), path, |section| meaning(name, section)))
                }
                None => self.file.refuse(&path, format!("it is {}, accepted is a table", describe_item(item))),
            }
        }
        meant
    }

    /// A list of tables, `[[key]]` or inline; `None` where the key is absent.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        mut meaning: impl FnMut(&mut Section<'_>) -> T,
    ) -> Option<Vec<T>> {
        let item = self.item(key)?;
        let tables: Vec<Option<&dyn TableLike>> = match item {
            Item::ArrayOfTables(tables) => tables.iter().map(|table| Some(table as &dyn TableLike)).collect(),
            Item::Value(Value::Array(array)) => array.iter().map(inline_table).collect(),
            other => {
                self.refuse(key, format!("it is {}, accepted is a list of tables", describe_item(other)));
                return None;
            }
        };
        let mut meant = Vec::new();
        for (nth, table) in tables.into_iter().enumerate() {
            let path = format!("{}[{nth}]", join(&self.path, key));
            match table {
                Some(table) => meant.push(Section::read(self.file, Some(table), path, &mut meaning)),
                None => self.file.refuse(&path, "it is not a table, accepted is a table"),
            }
        }
        Some(meant)
    }

    /// A list of values of one kind; `None` where the key is absent or no list. Elements that are refused are left out.
    pub(super) fn values<T>(&mut self, key: &'static str, kind: &Kind<T>) -> Option<Vec<T>> {
        let item = self.item(key)?;
        let Some(array) = item.as_array() else {
            let is = describe_item(item);
            self.refuse(key, format!("it is {is}, accepted is a list, each element {}", kind.accepted));
            return None;
        };
        let path = join(&self.path, key);
        let refuse = |nth: usize, reason: String| {
            self.file.refuse(&format!("{path}[{nth}]"), format!("{reason}, accepted is {}", kind.accepted));
        };
        let read = |(nth, value)| (kind.read)(value).map_err(|reason| refuse(nth, reason)).ok();
        Some(array.iter().enumerate().filter_map(read).collect())
    }

    /// A table of texts by names of the writer's choice; both sides are checked by the kinds.
    pub(super) fn map<T>(
        &mut self,
        key: &'static str,
        name_kind: &Kind<String>,
        kind: &Kind<T>,
    ) -> BTreeMap<String, T> {
        let item = self.item(key);
        let Some(table) = item.and_then(|item| self.as_table(key, item)) else { return BTreeMap::new() };
        let path = join(&self.path, key);
        let mut meant = BTreeMap::new();
        for (name, item) in table.iter() {
            let path = join(&path, name);
            let refuse = |reason: String, accepted: &str| {
                self.file.refuse(&path, format!("{reason}, accepted is {accepted}"));
            };
            if let Err(reason) = (name_kind.read)(&Value::from(name)) {
                refuse(format!("the name is refused: {reason}"), name_kind.accepted);
            }
            match item.as_value().map(kind.read) {
                Some(Ok(value)) => drop(meant.insert(name.to_owned(), value)),
                Some(Err(reason)) => refuse(reason, kind.accepted),
                None => refuse(format!("it is {}", describe_item(item)), kind.accepted),
            }
        }
        meant
    }

    fn as_table(&self, key: &str, item: &'f Item) -> Option<&'f dyn TableLike> {
        let table = item.as_table_like();
        if table.is_none() {
            self.refuse(key, format!("it is {}, accepted is a table", describe_item(item)));
        }
        table
    }
}

fn inline_table(value: &Value) -> Option<&dyn TableLike> {
    value.as_inline_table().map(|table| table as &dyn TableLike)
}

/// What a value is, without showing it: it may be a secret.
pub(super) fn describe(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) => "a list",
        Value::InlineTable(_) => "a table",
    }
}

fn describe_item(item: &Item) -> &'static str {
    match item {
        Item::None => "nothing",
        Item::Value(value) => describe(value),
        Item::Table(_) => "a table",
        Item::ArrayOfTables(_) => "a list of tables",
    }
}

/// The path of a key under another; quoted where TOML would need quotes.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn note_places(places: &mut BTreeMap<String, usize>, path: &str, table: &dyn TableLike) {
    for (name, _) in table.iter() {
        let Some((key, item)) = table.get_key_value(name) else { continue };
        let path = join(path, name);
        if let Some(span) = key.span().or_else(|| item.span()) {
            places.insert(path.clone(), span.start);
        }
        match item {
            Item::None => {}
            Item::Table(table) => note_places(places, &path, table),
            Item::Value(Value::InlineTable(table)) => note_places(places, &path, table),
            Item::Value(Value::Array(array)) => note_elements(places, &path, array),
            Item::Value(_) => {}
            Item::ArrayOfTables(tables) => {
                for (nth, table) in tables.iter().enumerate() {
                    let path = format!("{path}[{nth}]");
                    if let Some(span) = table.span() {
                        places.insert(path.clone(), span.start);
                    }
                    note_places(places, &path, table);
                }
            }
        }
    }
}

fn note_elements(places: &mut BTreeMap<String, usize>, path: &str, array: &Array) {
    for (nth, value) in array.iter().enumerate() {
        let path = format!("{path}[{nth}]");
        if let Some(span) = value.span() {
            places.insert(path.clone(), span.start);
        }
        match value {
            Value::InlineTable(table) => note_places(places, &path, table),
            Value::Array(array) => note_elements(places, &path, array),
            Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
        }
    }
}

/// Line and column, both from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before: String = text.char_indices().take_while(|(at, _)| *at < offset).map(|(_, letter)| letter).collect();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}
