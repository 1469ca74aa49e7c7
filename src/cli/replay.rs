//! `siemgate replay …`: events of the log, delivered once more.

use std::path::Path;

use clap::{Args, Subcommand};

use super::admin::Admin;
use super::when::When;
use super::{Exit, block_on, failed};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    range: Range,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the replays that are under way, and the last that ended.
    List,
    /// End one: what it has not sent stays unsent.
    Cancel {
        /// Its number, as `list` shows it.
        number: u64,
    },
}

#[derive(Debug, Args)]
struct Range {
    /// Who gets them.
    #[arg(long, value_name = "SINK", required = true)]
    sink: Option<String>,
    /// From this time on: "2026-11-25T08:00:00Z", or so long ago, such as "2h".
    #[arg(long, value_name = "TIME", required = true)]
    since: Option<When>,
    /// Before this time; until now unless set.
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// What this route takes, whichever sinks it names; without it what the routes give the sink today.
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    /// Send them; without it this only says how many there are.
    #[arg(long)]
    go: bool,
    /// Also to sinks that write to people or open tickets.
    #[arg(long)]
    notify: bool,
}

pub(super) fn run(config: &Path, arguments: Arguments) -> Exit {
    let path = match arguments.command {
        Some(Command::List) => "/api/v1/replays".to_owned(),
        Some(Command::Cancel { number }) => format!("/api/v1/replays/{number}/cancel"),
        None => match asked(arguments.range) {
            Some(query) => format!("/api/v1/replays?{query}"),
            None => return failed("name a sink and a time: --sink SINK --since TIME"),
        },
    };
    let post = path != "/api/v1/replays";
    let done = Admin::of(config).and_then(|admin| {
        block_on(async { if post { admin.post(&path).await } else { admin.get(&path).await } })
    });
    match done {
        Ok(answer) => {
            println!("{answer:#}");
            Exit::Ok
        }
        Err(exit) => exit,
    }
}

fn asked(range: Range) -> Option<String> {
    let Range { sink, since, until, route, go, notify } = range;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("sink", &sink?).append_pair("since", &since?.to_string());
    if let Some(until) = until {
        query.append_pair("until", &until.to_string());
    }
    if let Some(route) = route {
        query.append_pair("route", &route);
    }
    query.append_pair("go", &go.to_string()).append_pair("notify", &notify.to_string());
    Some(query.finish())
}
