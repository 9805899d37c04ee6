//! docs/cli.md is the help of every command; this test keeps it so.

use super::Cli;
use clap::CommandFactory;
use std::path::Path;

const INTRODUCTION: &str = "\
# The program `wmgm`

What `wmgm --help` and the help of every command say. Made from the program by
`UPDATE_DOCS=1 cargo test -p wmgm docs_are_current`, and checked by the same test.
";

/// The help of the program and of each of its commands.
fn page() -> String {
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut page = INTRODUCTION.to_owned();
    let commands = std::iter::once(root.clone()).chain(root.get_subcommands().cloned());
    for mut command in commands.filter(|c| c.get_name() != "help") {
        let name = command.get_bin_name().unwrap_or("wmgm").to_owned();
        let help = command.render_long_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        let help = help.join("\n");
        page += &format!("\n## {name}\n\n```text\n{}\n```\n", help.trim_end());
    }
    page
}

#[test]
fn docs_are_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path)
        .unwrap_or_default()
        .replace('\r', "");
    assert!(
        written == page,
        "docs/cli.md is not what the program says; run UPDATE_DOCS=1 cargo test -p wmgm docs_are_current"
    );
}

#[test]
fn the_parser_is_sound() {
    Cli::command().debug_assert();
}
