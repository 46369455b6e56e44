//! Tables for people: lists with a heading, and one object as name and value.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A column of a list: its heading, and whether it holds numbers.
#[derive(Debug, Clone, Copy)]
pub enum Column {
    /// Left-aligned.
    Text(&'static str),
    /// Right-aligned.
    Number(&'static str),
}

use Column::{Number, Text};

/// A list. What it says instead of an empty table is `nothing`.
pub fn list(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>, nothing: &str) -> String {
    let mut table = blank();
    table.set_header(columns.iter().map(|column| match column {
        Text(heading) | Number(heading) => *heading,
    }));
    table.add_rows(rows);
    for (at, column) in columns.iter().enumerate() {
        if let (Number(_), Some(column)) = (column, table.column_mut(at)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if table.row_count() == 0 { nothing.to_owned() } else { lines(&table) }
}

/// One object: its members below one another.
pub fn detail<'a>(members: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = blank();
    table.add_rows(members.into_iter().map(|(name, value)| vec![format!("{name}:"), value]));
    lines(&table)
}

fn blank() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// Without the padding at both ends of lines, so that the first column stands at the margin.
fn lines(table: &Table) -> String {
    let text = table.to_string();
    text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_aligned() {
        let rows = [vec!["demo1".to_owned(), "5".to_owned()], vec!["x".to_owned(), "1000".to_owned()]];
        let text = list(&[Text("NAME"), Number("SIZE")], rows, "none");
        assert_eq!(text, "NAME   SIZE\ndemo1     5\nx      1000");
        assert_eq!(list(&[Text("NAME")], [], "there is none"), "there is none");
    }

    #[test]
    fn details_are_pairs() {
        assert_eq!(detail([("Id", "1".to_owned()), ("Name", "demo".to_owned())]), "Id:    1\nName:  demo");
    }
}
