//! ASFF, the AWS Security Finding Format (2018-10-08).
//!
//! Guarantees: every required attribute, none longer and no list with more items than AWS takes; times
//! in UTC with milliseconds; one id an incident, so that an update changes the finding instead of
//! making another, and `UpdatedAt` grows with arrival; an incident that has ended is resolved and
//! archived. No text holds a control character. The account is in no event: a sink that knows it says
//! so, and elsewhere it is [`Account::nobody`].

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::facts::Facts;
use super::scales::{Step, scale};
use super::{lines, shorten, text};
use crate::core::Timestamp;
use crate::core::route::{Format, Shaped};
use crate::core::sink::incident_key;

/// ASFF in the table of formats.
pub static FORMAT: Format = Format {
    name: "asff",
    about: "ASFF (AWS Security Finding Format), for whatever passes it on to Security Hub; the account is 000000000000 except in security_hub",
    write: |event, room| write(event, &Account::nobody(), room),
};

/// Whose findings they are.
#[derive(Clone, Debug)]
pub struct Account {
    /// Twelve digits.
    pub id: String,
    /// The product's ARN, under which they are imported.
    pub product_arn: String,
    /// `aws`, or that of a region apart.
    pub partition: String,
    /// The region.
    pub region: String,
}

impl Account {
    /// The account's default product.
    pub fn new(id: &str, partition: &str, region: &str) -> Self {
        let product = format!("arn:{partition}:securityhub:{region}:{id}:product/{id}/default");
        Self {
            id: id.to_owned(),
            product_arn: product,
            partition: partition.to_owned(),
            region: region.to_owned(),
        }
    }

    /// For whoever fills the account in later.
    pub fn nobody() -> Self {
        Self::new("000000000000", "aws", "us-east-1")
    }
}

/// How much of an event is told: what gives way first is what takes most room and matters least.
struct Much {
    /// Bytes of the original event.
    original: usize,
    /// Most items of a list.
    items: usize,
    /// Longest text, in bytes.
    text: usize,
}

/// Bytes of one value of `ProductFields`.
const FIELD: usize = 2_048;
const RESOURCES: usize = 32;
const MALWARE: usize = 5;
const STEPS: [Much; 5] = [
    Much { original: FIELD, items: RESOURCES, text: FIELD },
    Much { original: 0, items: RESOURCES, text: 512 },
    Much { original: 0, items: 8, text: 256 },
    Much { original: 0, items: 2, text: 96 },
    Much { original: 0, items: 1, text: 40 },
];

/// `event` as a finding of `account` in at most `room` bytes.
pub fn write(event: &Shaped, account: &Account, room: usize) -> Option<Bytes> {
    let facts = Facts::of(event);
    let written = |much: &Much| finding(event, &facts, account, much).to_string();
    STEPS.iter().map(written).find(|line| line.len() <= room).map(Bytes::from)
}

fn finding(event: &Shaped, facts: &Facts<'_>, account: &Account, much: &Much) -> Value {
    let it = facts.finding;
    let severity = severity(facts);
    let types = [sort(facts)];
    let key = incident_key(it.incident.as_deref(), facts.id);
    let happened = stamp(facts.happened().unwrap_or(facts.received));
    let received = stamp(facts.received);
    // A product's clock may be ahead, and nothing is updated before it is created.
    let created = stamp(facts.happened().unwrap_or(facts.received).min(facts.received));
    let title = limited(&facts.name(), 256).unwrap_or_else(|| "Event".into());
    let about = it.title.as_deref().and_then(|title| limited(title, much.text.min(1_024)));
    let mut finding = json!({
        "SchemaVersion": "2018-10-08",
        "Id": format!("siemgate/{}/{key}", text::identifier(facts.source, 128)),
        "ProductArn": account.product_arn,
        "ProductName": limited(facts.product(), 128).unwrap_or_else(|| "siemgate".into()),
        "CompanyName": limited(facts.vendor(), 128).unwrap_or_else(|| "siemgate".into()),
        "GeneratorId": format!("{}/{}", text::identifier(facts.source, 128), sort_word(facts)),
        "AwsAccountId": account.id,
        "Types": types,
        "FirstObservedAt": happened,
        "LastObservedAt": happened,
        "CreatedAt": created,
        "UpdatedAt": received,
        "Severity": severity,
        "Title": title,
        "Description": about.unwrap_or_else(|| title.clone()),
        "FindingProviderFields": { "Severity": severity, "Types": types },
        "ProductFields": product_fields(event, facts, much),
        "Resources": resources(facts, account, much),
        "Workflow": { "Status": if it.ended { "RESOLVED" } else { "NEW" } },
        "RecordState": if it.ended { "ARCHIVED" } else { "ACTIVE" },
        "Sample": it.simulated,
    });
    if let Some(table) = finding.as_object_mut() {
        table.extend(optional(facts, much));
    }
    finding
}

/// What not every event has.
fn optional(facts: &Facts<'_>, much: &Much) -> Map<String, Value> {
    let mut table = Map::new();
    let link = facts.finding.link.as_deref().filter(|link| is_url(link) && link.len() <= much.text);
    table.extend(link.map(|link| ("SourceUrl".to_owned(), Value::from(link))));
    let (v4, v6) = facts.addresses();
    let mut network = Map::new();
    network.extend(v4.map(|v4| ("SourceIpV4".to_owned(), v4.to_string().into())));
    network.extend(v6.map(|v6| ("SourceIpV6".to_owned(), v6.to_string().into())));
    if !network.is_empty() {
        table.insert("Network".to_owned(), network.into());
    }
    if is_ransomware(facts) {
        let file = |file: &String| {
            let path = limited(file, much.text.min(512))?;
            Some(
                json!({ "Name": "Ransomware", "Type": "RANSOMWARE", "State": "OBSERVED", "Path": path }),
            )
        };
        let files = facts.finding.files.iter().filter_map(file);
        let malware: Vec<Value> = files.take(MALWARE.min(much.items)).collect();
        if !malware.is_empty() {
            table.insert("Malware".to_owned(), malware.into());
        }
    }
    table
}

fn severity(facts: &Facts<'_>) -> Value {
    let label = match scale("asff").map(|scale| scale.of(facts.finding.severity)) {
        Some(Step::Word(word)) => word,
        _ => "HIGH",
    };
    json!({ "Label": label, "Original": facts.reported().unwrap_or(facts.finding.severity.as_str()) })
}

fn is_ransomware(facts: &Facts<'_>) -> bool {
    facts.finding.category.as_deref() == Some("ransomware")
}

/// A type of AWS's taxonomy.
fn sort(facts: &Facts<'_>) -> &'static str {
    if is_ransomware(facts) { "Effects/Data Destruction" } else { "Unusual Behaviors/Data" }
}

/// The sort of event without its state: what generates findings is the same for all states.
fn sort_word(facts: &Facts<'_>) -> String {
    let class = facts.class();
    class.split_once('.').map_or(class.clone(), |(sort, _)| sort.to_owned())
}

/// What was hit: clusters, then shares; the source where the event names neither.
fn resources(facts: &Facts<'_>, account: &Account, much: &Much) -> Vec<Value> {
    let it = facts.finding;
    let named = |kind: &str, name: &String| {
        let id = limited(name, much.text.min(480))?;
        Some(json!({
            "Type": "Other",
            "Id": format!("{kind}/{id}"),
            "Partition": account.partition,
            "Region": account.region,
        }))
    };
    let clusters = it.clusters.iter().filter_map(|name| named("cluster", name));
    let shares = it.shares.iter().filter_map(|name| named("share", name));
    let mut all: Vec<Value> = clusters.chain(shares).take(much.items).collect();
    if all.is_empty() {
        all.extend(named("source", &text::identifier(facts.source, 128)));
    }
    all
}

/// Facts that ASFF has no attribute for, by names of our own.
fn product_fields(event: &Shaped, facts: &Facts<'_>, much: &Much) -> Value {
    let it = facts.finding;
    let list = |items: &[String]| {
        let items: Vec<String> =
            items.iter().filter_map(|item| limited(item, much.text)).take(much.items).collect();
        Some(items.join(", "))
    };
    let own = |text: &str| Some(text.to_owned());
    let original = (much.original > 0).then(|| original(event, much.original)).flatten();
    let fields = [
        ("EventId", Some(facts.id.to_string())),
        ("Source", own(facts.source)),
        ("State", facts.state().and_then(own)),
        ("Category", it.category.as_deref().and_then(own)),
        ("User", it.user.clone()),
        ("ClientAddresses", list(&it.client_ips)),
        ("Clusters", list(&it.clusters)),
        ("Shares", list(&it.shares)),
        ("Files", list(&it.files)),
        ("FileCount", facts.file_count()),
        ("Protocol", it.protocol.clone()),
        ("Original", original),
    ];
    let limit = much.text.max(64);
    let mut table = Map::new();
    for (name, value) in fields {
        let most = if name == "Original" { FIELD } else { limit };
        if let Some(value) = value.and_then(|value| limited(&value, most)) {
            table.insert(format!("siemgate/{name}"), value.into());
        }
    }
    table.into()
}

/// The event itself, where so much of it can be kept that it is still JSON.
fn original(event: &Shaped, room: usize) -> Option<String> {
    let line = lines::line(&event.body);
    let json = line.strip_suffix(b"\n").unwrap_or(&line);
    if json.len() > room {
        return shorten::json(json, room);
    }
    std::str::from_utf8(json).ok().map(str::to_owned)
}

/// A printable text of at most so many bytes, if there is any.
fn limited(value: &str, most: usize) -> Option<String> {
    let shown: String = value.trim().chars().map(text::shown).collect();
    let cut = text::cut(&shown, most).trim();
    (!cut.is_empty()).then(|| cut.to_owned())
}

fn is_url(link: &str) -> bool {
    let web = link.starts_with("https://") || link.starts_with("http://");
    web && link.chars().all(|c| c.is_ascii_graphic())
}

/// `2026-01-05T02:03:04.056Z`
fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
