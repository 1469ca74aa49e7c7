//! TLS: certificates that must not be accepted park a sink, and say what to do.

use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use siemgate::core::sink::Cause;
use siemgate::sinks::Built;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::sinks::{built, delivered, failed, folder, send};

/// A server whose certificate for `name` comes from an authority of its own; returns its port and
/// the authority's PEM.
async fn server(name: &str, expired: bool) -> (u16, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        leaf.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let private = PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));
    (port, root)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        let mut read = [0; 4_096];
        let _ = stream.read(&mut read).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            .await;
        let _ = stream.shutdown().await;
    }
}

fn sink(port: u16, dir: &TempDir, root: Option<&str>) -> Built {
    let (key, pem) = (dir.path().join("key"), dir.path().join("root.pem"));
    let trust = root.map(|root| {
        std::fs::write(&pem, root).unwrap();
        format!("ca_file = {pem:?}")
    });
    built(&format!(
        "[sinks.s]\ntype = \"taegis\"\nurl = \"https://localhost:{port}/x\"\nkey = {{ file = {key:?} }}\n{}",
        trust.unwrap_or_default()
    ))
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_only_when_named() {
    let (dir, (port, root)) = (folder(), server("localhost", false).await);
    delivered(send(&sink(port, &dir, Some(&root)), &["{}"]).await);
    let fault = failed(send(&sink(port, &dir, None), &["{}"]).await, Cause::Setup);
    assert!(fault.note.contains("sinks.s.ca_file"), "{fault:?}");
}

#[tokio::test]
async fn another_name_and_an_expired_certificate_are_setup() {
    let (dir, (port, root)) = (folder(), server("other.example", false).await);
    let fault = failed(send(&sink(port, &dir, Some(&root)), &["{}"]).await, Cause::Setup);
    assert!(fault.note.contains("another name"), "{fault:?}");
    let (port, root) = server("localhost", true).await;
    let fault = failed(send(&sink(port, &dir, Some(&root)), &["{}"]).await, Cause::Setup);
    assert!(fault.note.contains("expired"), "{fault:?}");
}

#[tokio::test]
async fn a_port_without_tls_is_setup() {
    // Answers the greeting with plain HTTP, as a server does that expects http://.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1_024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let dir = folder();
    let fault = failed(send(&sink(port, &dir, None), &["{}"]).await, Cause::Setup);
    assert!(fault.note.contains("does not speak TLS"), "{fault:?}");
}
