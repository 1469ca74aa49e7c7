//! `siemgate sinks pin` and `siemgate sinks pins`: a certificate accepted by a person, for a while.
//!
//! Guarantees: what is accepted is what was shown, by its fingerprint; nothing is accepted without
//! `--until` and a yes; the record says who. It goes the sink's own way to the destination, proxy
//! and all, and delivers nothing.

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::admin::Admin;
use super::{Exit, block_on, failed, plan};
use crate::app::{Plan, SinkPlan};
use crate::core::Timestamp;
use crate::core::certificate::Certificate;
use crate::core::config::{Pin, Pins, Section, Served, Span};

/// How long looking at a certificate may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct PinArguments {
    /// The sink's name.
    name: String,
    /// Accept exactly the certificate that is shown now, for this long: 4h, 7d at most. Without it,
    /// the certificate is only shown.
    #[arg(long, value_name = "TIME", conflicts_with = "remove")]
    until: Option<Span>,
    /// Accept it without asking.
    #[arg(long, requires = "until")]
    yes: bool,
    /// End the sink's pins now.
    #[arg(long)]
    remove: bool,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `siemgate sinks pin NAME`
pub(super) fn pin(config: &Path, arguments: &PinArguments) -> Exit {
    let done = match arguments.remove {
        true => remove(config, &arguments.name),
        false => show_and_add(config, arguments),
    };
    done.err().unwrap_or(Exit::Ok)
}

fn show_and_add(config: &Path, arguments: &PinArguments) -> Result<(), Exit> {
    let name = &arguments.name;
    let time = arguments.until.map(|until| until.0);
    if time.is_some_and(|time| time.is_zero() || time > Pin::LONGEST) {
        return Err(failed(
            "--until must be more than 0 and at most 7d; for longer, set the sink's `pins` or `ca_file`",
        ));
    }
    let plan = plan(config)?;
    let sink = sink(&plan, name)?;
    let (served, refused) = look(sink)?;
    show(&served, name, refused.as_deref());
    let Some(time) = time else { return Ok(()) };
    let since = now();
    let until = since.checked_add(time).map_err(failed)?;
    if !arguments.yes
        && !agreed(&format!("Accept exactly this certificate for {name} until {until}?"))
    {
        return Err(failed("nothing was accepted"));
    }
    let subject = served.certificate.map_or_else(|| "unreadable".into(), |read| read.subject);
    let pin = Pin {
        sink: name.clone(),
        fingerprint: served.fingerprint,
        subject,
        by: person(),
        since,
        until,
        ended_by: None,
    };
    println!(
        "{name} accepts {} until {until}, on record as pinned by {}.",
        pin.fingerprint, pin.by
    );
    let mut pins = pins(&plan)?;
    pins.add(pin).map_err(|error| unwritten(&pins, &error))?;
    take_effect(config, name)
}

fn remove(config: &Path, name: &str) -> Result<(), Exit> {
    let plan = plan(config)?;
    let mut pins = pins(&plan)?;
    match pins.end(name, &person(), now()) {
        Ok(0) => {
            Err(failed(format!("{name} has no pin that holds; `siemgate sinks pins` lists all")))
        }
        Ok(_) => {
            println!("{name} judges its destination's certificate by its own settings again.");
            match plan.sinks.iter().any(|sink| *sink.name == *name) {
                true => take_effect(config, name),
                false => Ok(()),
            }
        }
        Err(error) => Err(unwritten(&pins, &error)),
    }
}

/// `siemgate sinks pins`
pub(super) fn list(config: &Path, arguments: &ListArguments) -> Exit {
    let pins = match plan(config).and_then(|plan| pins(&plan)) {
        Ok(pins) => pins,
        Err(exit) => return exit,
    };
    if arguments.json {
        println!("{:#}", serde_json::json!(pins.iter().collect::<Vec<_>>()));
        return Exit::Ok;
    }
    let now = now();
    for pin in pins.iter() {
        let Pin { sink, fingerprint, subject, by, since, until, ended_by } = pin;
        let standing = match (pin.holds(now), ended_by) {
            (true, _) => format!("holds until {until}"),
            (false, None) => format!("ended {until}"),
            (false, Some(who)) => format!("ended {until} by {who}"),
        };
        println!("{sink}: {standing}\n    {fingerprint} ({subject}), since {since} by {by}");
    }
    let holding = pins.iter().filter(|pin| pin.holds(now)).count();
    println!("{holding} of {} on record in {} hold", pins.iter().count(), pins.path().display());
    Exit::Ok
}

fn sink<'p>(plan: &'p Plan, name: &str) -> Result<&'p SinkPlan, Exit> {
    let known = || plan.sinks.iter().map(|sink| &*sink.name);
    let found = plan.sinks.iter().find(|sink| *sink.name == *name);
    found.ok_or_else(|| failed(Section::unknown_name("", "sink", name, known())))
}

fn pins(plan: &Plan) -> Result<Pins, Exit> {
    Pins::read(&plan.log).map_err(failed)
}

fn unwritten(pins: &Pins, error: &io::Error) -> Exit {
    let path = pins.path().display();
    failed(format!(
        "cannot write {path}: {error}; run this as the user that runs siemgate, or as root"
    ))
}

/// The certificate at the end of the sink's own way, and why it is refused, if it is.
fn look(sink: &SinkPlan) -> Result<(Served, Option<String>), Exit> {
    let probe = async {
        let probe = sink.built.sink.probe(Timestamp::now());
        Ok(tokio::time::timeout(PATIENCE, probe).await)
    };
    let said = match block_on(probe)? {
        Ok(Ok(_)) => None,
        Ok(Err(fault)) => Some(fault.note),
        Err(_) => Some("no answer in time".to_owned()),
    };
    match (sink.pins.served(), said) {
        (Some(served), said) => Ok((served.clone(), said.filter(|_| !served.good))),
        (None, Some(why)) => Err(failed(format!("no certificate was shown: {why}"))),
        (None, None) => Err(failed(format!("{} does not speak TLS", sink.name))),
    }
}

fn show(served: &Served, name: &str, refused: Option<&str>) {
    println!("The destination of {name} shows this certificate:");
    match &served.certificate {
        Some(Certificate { key, subject, issuer, self_signed, names, from, until, .. }) => {
            let itself = if *self_signed { " (self-signed)" } else { "" };
            println!("  subject      {subject}");
            println!("  issuer       {issuer}{itself}");
            println!(
                "  names        {}",
                if names.is_empty() { "none".into() } else { names.join(", ") }
            );
            println!("  valid        {from} to {until} (now {})", now());
            println!("  fingerprint  {}", served.fingerprint);
            println!("  public key   {key}");
        }
        None => println!("  fingerprint  {}\n  (it cannot be read)", served.fingerprint),
    }
    match (served.good, refused) {
        (true, _) => println!("The sink's settings accept it: it needs no pin."),
        (false, Some(why)) => println!("It is refused: {why}"),
        (false, None) => println!("The sink's settings refuse it; a pin accepts it now."),
    }
}

fn agreed(question: &str) -> bool {
    print!("{question} [y/N] ");
    let mut answer = String::new();
    let asked = io::stdout().flush().and_then(|()| io::stdin().lock().read_line(&mut answer));
    asked.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Have the running gateway read its configuration, and with it the pins.
fn take_effect(config: &Path, name: &str) -> Result<(), Exit> {
    let admin = Admin::of(config)?;
    let answer = block_on(admin.post("/-/reload")).inspect_err(|_| {
        eprintln!("It is on record, and takes effect when the gateway next starts or reloads.");
    })?;
    let changed = answer["changed"].as_array().map(Vec::as_slice).unwrap_or_default();
    if changed.iter().any(|sink| sink == name) {
        println!("The running gateway goes by it.");
        return Ok(());
    }
    Err(failed(format!(
        "the running gateway read its configuration and found nothing new for {name}; is it run in another folder? `log.dir`, beside which pins are kept, is relative to that"
    )))
}

/// The time, to whole seconds: it is read and told by people.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Who runs this: who logged in, also behind sudo.
fn person() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let login = read("/proc/self/loginuid").trim().parse().ok().filter(|uid| *uid != u32::MAX);
    let uid = login.unwrap_or_else(|| rustix::process::getuid().as_raw());
    let name = read("/etc/passwd").lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("user {uid}"))
}
