//! Real syslog servers.
