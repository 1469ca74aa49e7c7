//! The report: docs/performance.md is written by it.

use super::figures::Section;
use super::{Bench, machine};

/// As Markdown.
pub fn write(bench: &Bench, sections: &[Section]) -> String {
    let head = format!(
        "# Performance\n\n<!-- Written by `make bench`. -->\n\nEverything here was measured in one run, in turns with what it is compared to; {} rounds, medians, and\nthe least and most. Absolute figures mean nothing on another machine; ratios do. The load generator, the\nreceiver and the gateway share the cores.\n\n{}\n",
        bench.rounds,
        machine::about(&bench.dir)
    );
    sections.iter().fold(head, |text, section| text + &one(section))
}

fn one(section: &Section) -> String {
    let lines: Vec<String> = section.rows.iter().map(|row| row.line()).collect();
    format!(
        "\n## {}\n\n{}\n\n| | median | spread | target | reached |\n|---|---|---|---|---|\n{}\n",
        section.title,
        section.about,
        lines.join("\n")
    )
}
