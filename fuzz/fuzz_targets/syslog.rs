#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| siemgate::fuzz::run("syslog", data));
