//! A mistake in a program is told with the file and the line of the TOML.

use std::path::Path;

use siemgate::app::Plan;

const HEAD: &str = "[sources.superna]\ntype = \"superna\"\n\n[sinks.archive]\ntype = \"stdout\"\n\n\
    [unmatched]\nsinks = \"archive\"\n";

/// What `check` says about a folder with these files.
fn said(files: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("10-head.toml"), HEAD).unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let text = |problem: &siemgate::core::config::Problem| {
        problem.to_string().replace(&format!("{}/", Path::new(dir.path()).display()), "")
    };
    match Plan::read(dir.path()) {
        Ok(plan) => (Vec::new(), plan.warnings.iter().map(text).collect()),
        Err(problems) => (problems.iter().map(text).collect(), Vec::new()),
    }
}

#[test]
fn a_mistake_in_a_program_of_several_lines() {
    let text = "[routes.r]\nsinks = \"archive\"\nwhen = '''\n# two lines\nsize = length(array(.files) ?? [])\n\
        size > 0 && upcas(.user) == \"X\"\n'''\n";
    let (problems, _) = said(&[("20-routes.toml", text)]);
    let expected = "20-routes.toml:6: routes.r.when: call to undefined function\n      \
        |\n      | size > 0 && upcas(.user) == \"X\"\n      |             ^^^^^\n";
    assert!(problems[0].starts_with("20-routes.toml:6: routes.r.when: "), "{}", problems[0]);
    assert!(problems[0].contains("size > 0 && upcas(.user)"), "{}", problems[0]);
    let lines: Vec<&str> = problems[0].lines().collect();
    let column = |part: &str| lines.iter().find_map(|line| line.find(part)).unwrap();
    assert_eq!(column("upcas("), column("^^^^^"), "{}\n{expected}", problems[0]);
}

#[test]
fn mistakes_of_all_programs_are_told_at_once() {
    let text = "[routes.a]\nsinks = \"archive\"\nwhen = 'now() == 1'\n\n[routes.b]\n\
        transform = '''\n.a = 1\n.b = random_int(1, 2)\n.c = nothing(1)\n'''\nsinks = \"archive\"\nwhen = \"\"\"\n.x == 1 && \\\n  .y == 1 &&\n.z\"\"\"\n";
    let (problems, _) = said(&[("20-routes.toml", text)]);
    let places: Vec<String> = problems
        .iter()
        .map(|text| text.split(": ").take(2).collect::<Vec<_>>().join(" "))
        .collect();
    let expected = [
        "20-routes.toml:3 routes.a.when",
        "20-routes.toml:8 routes.b.transform",
        "20-routes.toml:9 routes.b.transform",
        "20-routes.toml:13 routes.b.when",
    ];
    assert_eq!(places, expected, "{}", problems.join("\n"));
}

#[test]
fn a_warning_has_its_line_too() {
    let text =
        "[routes.r]\nsinks = \"archive\"\ntransform = '''\n.a = 1\nupcase(\"x\")\n.b = 2\n'''\n";
    let (problems, warnings) = said(&[("20-routes.toml", text)]);
    assert_eq!(problems, [""; 0]);
    assert!(
        warnings.iter().any(|text| text.starts_with("20-routes.toml:5: routes.r.transform: ")),
        "{warnings:?}"
    );
}
