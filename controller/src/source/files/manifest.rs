//! One file's text → events.
//!
//! Input: JSON or YAML, one or more documents, objects or lists of them. Output: an
//! event per object of a kind that matters. Objects are read one at a time straight
//! into typed form and dropped again. YAML is turned into JSON first, document by
//! document, as the Kubernetes tools do, so both mean exactly the same.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{
    super::ManifestError,
    yaml::{self, Piece},
};
use crate::{convert::Converter, model::Event};

/// Reads every document of `text` and hands their events to `sink`.
///
/// `json` tells that the text must be JSON; other text may be if it looks like it.
pub(super) fn parse(
    text: &str,
    json: bool,
    converter: &mut Converter,
    sink: &mut dyn FnMut(Event),
) -> Result<(), ManifestError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        text,
        document: 0,
        start: None,
        converter,
        sink,
    };
    if json || (text.trim_start().starts_with('{') && is_json(text)) {
        reader.json_documents()
    } else {
        reader.yaml_documents()
    }
}

/// YAML, too, may begin with a brace.
fn is_json(text: &str) -> bool {
    let mut documents = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    documents.all(|document| document.is_ok())
}

struct Reader<'a> {
    text: &'a str,
    document: usize,
    /// First line of the YAML that is being read as JSON.
    start: Option<usize>,
    converter: &'a mut Converter,
    sink: &'a mut dyn FnMut(Event),
}

/// What must be known of an object before it can be read as what it is.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "apiVersion")]
    api_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    items: Option<&'a RawValue>,
}

/// What a list says beside its items.
#[derive(Deserialize)]
struct FrameHead {
    #[serde(default)]
    kind: String,
}

impl Reader<'_> {
    fn json_documents(&mut self) -> Result<(), ManifestError> {
        let text = self.text;
        for document in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
            self.document += 1;
            let document = document.map_err(|error| self.syntax(error.line(), &error))?;
            self.value(document, None)?;
        }
        Ok(())
    }

    fn yaml_documents(&mut self) -> Result<(), ManifestError> {
        let mut buffer = Vec::new();
        for document in yaml::documents(self.text) {
            self.document += 1;
            let Some(list) = yaml::list(document) else {
                self.yaml_value(document, None, &mut buffer)?;
                continue;
            };
            let text = list.frame.concat();
            let head: FrameHead = serde_norway::from_str(&text).map_err(|error| {
                self.yaml_error(
                    Piece {
                        text: &text,
                        ..document
                    },
                    &error,
                )
            })?;
            if !head.kind.ends_with("List") {
                self.yaml_value(document, None, &mut buffer)?;
                continue;
            }
            for item in list.items {
                // The dash becomes part of the indentation.
                let text = item.text.replacen('-', " ", 1);
                self.yaml_value(
                    Piece {
                        text: &text,
                        ..item
                    },
                    Some(&head.kind),
                    &mut buffer,
                )?;
            }
        }
        Ok(())
    }

    /// Reads the one object or list that `piece` is.
    fn yaml_value(
        &mut self,
        piece: Piece<'_>,
        item_of: Option<&str>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ManifestError> {
        buffer.clear();
        self.start = Some(piece.line);
        let mut json = serde_json::Serializer::new(&mut *buffer);
        let yaml = serde_norway::Deserializer::from_str(piece.text);
        if serde_transcode::transcode(yaml, &mut json).is_err() {
            // The transcoder's error has lost the position: ask the parser alone.
            let again = serde_norway::from_str::<serde_norway::Value>(piece.text);
            return Err(match again {
                Err(error) => self.yaml_error(piece, &error),
                Ok(_) => self.error(self.start, &"this cannot be expressed as JSON"),
            });
        }
        let value = serde_json::from_slice::<&RawValue>(buffer);
        let value = value.map_err(|error| self.error(self.start, &error))?;
        self.value(value, item_of)
    }

    /// An object or a list; `item_of` is the kind of the list that it is in.
    fn value(&mut self, value: &RawValue, item_of: Option<&str>) -> Result<(), ManifestError> {
        if value.get() == "null" {
            return Ok(());
        }
        let head: Head<'_> = self.read(value)?;
        // The items of a list that the API server sent do not repeat their kind.
        let implied = item_of.and_then(|list| list.strip_suffix("List"));
        let implied = implied.filter(|kind| !kind.is_empty());
        let Some(kind) = head.kind.as_deref().or(implied) else {
            return Err(self.error(
                self.line_of(value),
                &"this is no Kubernetes object: it has no kind",
            ));
        };
        if let Some(items) = head.items.filter(|_| kind.ends_with("List")) {
            for item in self.read::<Vec<&RawValue>>(items)? {
                self.value(item, Some(kind))?;
            }
            return Ok(());
        }
        let event = match (head.api_version.as_deref(), kind) {
            (Some("v1") | None, "Service") => self.converter.service(&self.object(value, kind)?),
            (Some("discovery.k8s.io/v1") | None, "EndpointSlice") => {
                let slice = self.object(value, kind)?;
                if let Some(trigger) = self.converter.trigger(&slice) {
                    (self.sink)(trigger);
                }
                self.converter.endpoint_slice(&slice)
            }
            (Some("networking.k8s.io/v1" | "networking.k8s.io/v1beta1") | None, "ServiceCIDR") => {
                self.converter.service_cidr(&self.object(value, kind)?)
            }
            (Some("v1") | None, "Node") => self.converter.node(&self.object(value, kind)?),
            (version, kind) => {
                tracing::debug!(version, kind, "ignoring an object of another kind");
                None
            }
        };
        if let Some(event) = event {
            (self.sink)(event);
        }
        Ok(())
    }

    fn read<'de, T: Deserialize<'de>>(&self, value: &'de RawValue) -> Result<T, ManifestError> {
        let read = serde_json::from_str(value.get());
        read.map_err(|error| {
            self.error(self.line_in(value, error.line()), &before_position(&error))
        })
    }

    fn object<T: DeserializeOwned>(
        &self,
        value: &RawValue,
        kind: &str,
    ) -> Result<T, ManifestError> {
        serde_json::from_str(value.get()).map_err(|_| self.bad_object::<T>(value, kind))
    }

    /// Reads the object a second time to tell which field of which object is wrong.
    fn bad_object<T: DeserializeOwned>(&self, value: &RawValue, kind: &str) -> ManifestError {
        let mut json = serde_json::Deserializer::from_str(value.get());
        let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut json) else {
            return self.error(self.line_of(value), &"unreadable object");
        };
        let line = self.line_in(value, error.inner().line());
        let object = identity(value);
        let (path, reason) = (error.path(), before_position(error.inner()));
        self.error(line, &format_args!("{kind} {object}: {path}: {reason}"))
    }

    fn yaml_error(&self, piece: Piece<'_>, error: &serde_norway::Error) -> ManifestError {
        let line = error
            .location()
            .map_or(0, |location| location.line().saturating_sub(1));
        self.error(Some(piece.line + line), &before_position(error))
    }

    fn syntax(&self, line: usize, error: &serde_json::Error) -> ManifestError {
        self.error(Some(line), &before_position(error))
    }

    fn error(&self, line: Option<usize>, message: &impl ToString) -> ManifestError {
        ManifestError {
            document: self.document,
            line,
            message: message.to_string(),
        }
    }

    fn line_of(&self, value: &RawValue) -> Option<usize> {
        self.line_in(value, 1)
    }

    /// The line of the file on which line `line` of `value` lies; if `value` was
    /// converted from YAML, the line on which its document or item begins.
    fn line_in(&self, value: &RawValue, line: usize) -> Option<usize> {
        if self.start.is_some() {
            return self.start;
        }
        let start = value
            .get()
            .as_ptr()
            .addr()
            .checked_sub(self.text.as_ptr().addr())?;
        let before = self.text.as_bytes().get(..start)?;
        Some(lines(before) + line - 1)
    }
}

/// The number of the line on which `text` ends, from 1.
pub(super) fn lines(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').count()
}

/// The parsers' positions count from the start of the piece, not of the file.
fn before_position(error: &impl ToString) -> String {
    let text = error.to_string();
    let end = text.find(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

/// namespace/name, as far as they can be made out.
fn identity(value: &RawValue) -> String {
    let value: serde_json::Value = serde_json::from_str(value.get()).unwrap_or_default();
    let part = |field: &str, default| {
        let part = value["metadata"][field].as_str();
        part.unwrap_or(default).to_owned()
    };
    format!(
        "{}/{}",
        part("namespace", "default"),
        part("name", "(without a name)")
    )
}
