//! The report as one HTML page.
//!
//! Guarantees: self-contained, without script, and a policy in the page itself forbids both scripts
//! and loading anything; every text is escaped; tables repeat their heads on paper.

use super::{Table, Told};

const STYLE: &str = "\
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1f24; background: #fff; margin: 2.5rem auto;
  max-width: 70rem; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .2rem 0; color: #57606a; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid #d0d7de; white-space: nowrap; }
th { color: #57606a; font-weight: 600; border-bottom: 2px solid #8c959f; vertical-align: bottom;
  white-space: normal; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; }
td.wrong { color: #a40e26; font-weight: 700; }
.scroll { overflow-x: auto; }
@media print {
  body { margin: 0; max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; } tr { break-inside: avoid; } thead { display: table-header-group; }
  .scroll { overflow: visible; } th, td { padding: .2rem .35rem; white-space: normal; }
  @page { size: A4 landscape; margin: 15mm; }
}
";

/// The page.
pub(super) fn page(told: &Told) -> String {
    let title = escaped(&told.title);
    let notes: String =
        told.notes.iter().map(|note| format!("<p>{}</p>\n", escaped(note))).collect();
    let tables: String = told.tables.iter().map(table).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         {notes}{tables}</body>\n</html>\n"
    )
}

fn table(table: &Table) -> String {
    let title = format!("<h2>{}</h2>\n", escaped(table.title));
    if table.rows.is_empty() {
        return format!("{title}<p>{}</p>\n", escaped(table.empty));
    }
    let heads: String = table
        .heads
        .iter()
        .map(|head| format!("<th scope=\"col\">{}</th>", escaped(head)))
        .collect();
    let rows: String = table.rows.iter().map(|cells| row(&table.heads, cells)).collect();
    format!(
        "{title}<div class=\"scroll\"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

fn row(heads: &[&str], cells: &[String]) -> String {
    let cells = heads.iter().zip(cells).map(|(head, cell)| {
        let is_wrong = *head == "difference" && cell != "0";
        let class = if is_wrong { " class=\"wrong\"" } else { "" };
        format!("<td{class}>{}</td>", escaped(cell))
    });
    format!("<tr>{}</tr>\n", cells.collect::<String>())
}

/// `text` as it stands in an element or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        let odd = "<script>alert('&\"')</script>".to_owned();
        let table = Table {
            title: "t",
            empty: "",
            heads: vec!["sink", "difference"],
            rows: vec![vec![odd.clone(), "-1".into()]],
        };
        let told = Told { title: odd.clone(), notes: vec![odd], tables: vec![table] };
        let page = page(&told);
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;alert(&#39;&amp;&quot;&#39;)").count(), 4);
        assert!(page.contains("<td class=\"wrong\">-1</td>"), "{page}");
    }
}
