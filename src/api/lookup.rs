//! Which object, or which part of a list, a GET asks for: once for all routes.

use std::str::FromStr;

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::Deserialize;
use utoipa::{
    IntoParams,
    openapi::{
        RefOr, Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, Schema, Type},
    },
};

use super::{
    Api,
    body::{note_ignored, query_pairs},
    error::Failure,
    wire::Flag,
};
use crate::{
    error::Error,
    types::{
        Invalid,
        selection::{Field, Kind, Selection},
    },
};

/// What a GET without an id in its path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<L> {
    /// The object with this id.
    Id(String),
    /// The object with this name.
    Name(String),
    /// The list, or this part of it.
    List(L),
}

/// Parameters that ask for one object of a list that is always given whole.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Lookup {
    /// Answer with the object of this id.
    id: Option<String>,
    /// Answer with the object of this name.
    name: Option<String>,
}

impl Lookup {
    /// What is asked for.
    pub(super) fn asked(self) -> Result<Asked<()>, Invalid> {
        match (self.id, self.name) {
            (Some(_), Some(_)) => Err(Invalid::new("id", "give either id or name, not both")),
            (Some(id), None) => Ok(Asked::Id(id)),
            (None, Some(name)) => Ok(Asked::Name(name)),
            (None, None) => Ok(Asked::List(())),
        }
    }
}

/// The id in a path or query. What is no id is the id of no object.
pub(super) fn id<T: FromStr>(kind: &'static str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|_| Error::not_found(kind, text))
}

/// A part of a list that can be long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<F> {
    /// Which objects.
    pub(super) selection: Selection<F>,
    /// Each with all its members.
    pub(super) detail: bool,
}

/// Parameters of a GET of a list that can be long: `id` or `name` alone ask for one object, else they are filters
/// like the other fields.
pub(super) struct Listing<F>(pub(super) Asked<Page<F>>);

impl<F: Field> Page<F> {
    fn read(mut parameters: Vec<(String, String)>) -> Result<(Self, Vec<String>), Invalid> {
        let mut detail = false;
        // One is taken out; another one stays behind, and is refused like any that is given twice.
        if let Some(at) = parameters.iter().position(|(name, _)| name == "detail")
            && parameters.iter().filter(|(name, _)| name == "detail").count() == 1
        {
            detail = flag("detail", &parameters.remove(at).1)?;
        }
        let (selection, unknown) = Selection::read(&parameters)?;
        Ok((Page { selection, detail }, unknown))
    }
}

impl<F: Field> Listing<F> {
    fn read(mut parameters: Vec<(String, String)>) -> Result<(Self, Vec<String>), Invalid> {
        let selects = |name: &str| PAGING.contains(&name) || F::ALL.iter().any(|(known, _, _)| *known == name);
        let mut selecting = parameters.iter().enumerate().filter(|(_, (name, _))| selects(name));
        let lone = match (selecting.next(), selecting.next()) {
            (Some((at, (name, _))), None) if name == "id" || name == "name" => Some(at),
            _ => None,
        };
        let key = lone.map(|at| parameters.remove(at));
        let (page, unknown) = Page::read(parameters)?;
        let asked = match key {
            Some((name, text)) if name == "id" => Asked::Id(text),
            Some((_, text)) => Asked::Name(text),
            None => Asked::List(page),
        };
        Ok((Listing(asked), unknown))
    }
}

/// Parameters that say which part of a list is wanted, beside filters.
const PAGING: [&str; 3] = ["limit", "offset", "sort"];

fn flag(name: &str, text: &str) -> Result<bool, Invalid> {
    let text = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
    Flag::deserialize(text).map(|flag| flag.0).map_err(|error| Invalid::new(name, error.to_string()))
}

impl<F: Field> FromRequestParts<Api> for Page<F> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Failure> {
        let (page, unknown) = Page::read(query_pairs(parts)?).map_err(Error::from)?;
        note_ignored(parts, unknown);
        Ok(page)
    }
}

impl<F: Field> FromRequestParts<Api> for Listing<F> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Failure> {
        let (listing, unknown) = Listing::read(query_pairs(parts)?).map_err(Error::from)?;
        note_ignored(parts, unknown);
        Ok(listing)
    }
}

impl<F: Field> IntoParams for Page<F> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let names: Vec<_> = F::ALL.iter().map(|(name, _, _)| format!("`{name}`")).collect();
        let count = || text(Some("^[0-9]+$"));
        let paging = [
            ("limit", count(), "At most this many. All when it is left out.".to_owned()),
            ("offset", count(), "Leave out this many first.".to_owned()),
            (
                "sort",
                text(None),
                format!(
                    "Order: one or more of {}, with commas between them and a `-` before those that are to descend.",
                    names.join(", ")
                ),
            ),
            ("detail", yes_or_no(), "Each object with all its members.".to_owned()),
        ];
        let filters = F::ALL.iter().map(|(name, _, kind)| {
            let (schema, values) = match kind {
                Kind::Number => (text(Some("^(-?[0-9]+|null)$")), "value; `null` is for those without one"),
                Kind::Text => (text(None), "value; `null` is for those without one"),
                Kind::Flag => (yes_or_no(), "value"),
            };
            (*name, schema, format!("Only those whose `{name}` has this {values}."))
        });
        paging
            .into_iter()
            .chain(filters)
            .map(|(name, schema, description)| parameter(name, schema, description))
            .collect()
    }
}

impl<F: Field> IntoParams for Listing<F> {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = Page::<F>::into_params(place);
        for parameter in parameters.iter_mut().filter(|it| it.name == "id" || it.name == "name") {
            parameter.description = Some(format!(
                "Without filters and paging: answer with the object of this {}. Else a filter.",
                parameter.name
            ));
        }
        parameters
    }
}

fn yes_or_no() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::Boolean).into()
}

fn text(pattern: Option<&str>) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).pattern(pattern).into()
}

fn parameter(name: &str, schema: RefOr<Schema>, description: String) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .schema(Some(schema))
        .description(Some(description))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::selection::{SnapshotField, Value};

    fn read(query: &[(&str, &str)]) -> Result<(Asked<Page<SnapshotField>>, Vec<String>), Invalid> {
        let pairs = query.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Listing::read(pairs).map(|(Listing(asked), unknown)| (asked, unknown))
    }

    #[test]
    fn a_key_alone_asks_for_one_object() {
        assert_eq!(read(&[("id", "x")]).unwrap().0, Asked::Id("x".into()));
        assert_eq!(read(&[("name", "null")]).unwrap().0, Asked::Name("null".into()));
        // What says nothing about the choice makes no difference to it.
        let (asked, unknown) = read(&[("typo", "1"), ("id", "7"), ("detail", "1")]).unwrap();
        assert_eq!((asked, unknown), (Asked::Id("7".into()), vec!["typo".to_owned()]));
    }

    #[test]
    fn a_key_beside_other_parameters_is_a_filter() {
        let (asked, _) = read(&[("name", "a"), ("limit", "5"), ("detail", "true")]).unwrap();
        let Asked::List(page) = asked else { panic!("{asked:?}") };
        assert!(page.detail);
        assert_eq!(page.selection.filters, [(SnapshotField::Name, Value::Text("a".into()))]);
        assert!(matches!(read(&[("name", "a"), ("id", "5")]).unwrap().0, Asked::List(_)));
        assert!(matches!(read(&[]).unwrap().0, Asked::List(_)));
    }

    #[test]
    fn faults_name_the_parameter() {
        for (first, second) in [(("id", "1"), ("id", "2")), (("detail", "1"), ("detail", "1"))] {
            assert_eq!(read(&[first, second]).unwrap_err().field, first.0);
        }
        assert_eq!(read(&[("detail", "yes")]).unwrap_err().field, "detail");
        assert_eq!(read(&[("limit", "-1"), ("id", "1")]).unwrap_err().field, "limit");
    }
}
