//! Configuration: figment layers in, typed and checked sections out.
//!
//! Guarantees: every problem of a configuration is reported at once, each with its key, its file
//! and line where it has one, and what to do; unknown keys are errors with the nearest name;
//! secrets are references, resolved here and nowhere else. It does not know any source, route or
//! sink by name: their sections are handed on as [`Section`]s.

mod alarms;
mod door;
mod keys;
mod layers;
mod pins;
pub(in crate::core) mod private;
mod problem;
mod rows;
mod safety;
mod secret;
pub mod secret_file;
mod section;
mod settings;
mod units;
mod values;

pub use alarms::{AlarmSettings, HeartbeatSettings};
pub use door::{Access, BasicAuth, DoorAuth, Encoding, Handshake, HmacAuth, SourceDoor};
pub use layers::{Layers, RESERVED, is_layer};
pub use pins::{Pin, Pins, Served, SinkPins};
pub use problem::{Place, Problem, Problems};
pub use safety::read as read_file;
pub use secret::{Secret, Secrets};
pub use section::Section;
pub use settings::{
    AdminTls, BatchSettings, ClientCert, DeliverySettings, Engine, GuardSettings, InFlight,
    JournalFormat, JournalSettings, LogSettings, QuarantineSettings, ReceiptSettings,
    RetrySettings, ServerSettings, StartSetting, WebhookTls,
};
pub use units::{ByteSize, OneOrMany, Rate, Span};
